/** F8's baseline: a plain server that streams one file, its argument, by fs.createReadStream. */
import { createReadStream, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'

const path = process.argv[2] ?? ''
const sizeBytes = statSync(path).size

const server = createServer((_request, response) => {
  response.writeHead(200, {
    'content-type': 'application/vnd.android.package-archive',
    'content-length': sizeBytes,
  })
  pipeline(createReadStream(path), response, () => {}) // the client left
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // it listens on TCP
  process.stderr.write(`pid ${process.pid}\nlistening on http://127.0.0.1:${port}\n`)
})
