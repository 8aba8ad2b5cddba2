/** The other side of F8: a plain server that answers every GET with one file, by fs.createReadStream. Its path is the argument. */
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
  pipeline(createReadStream(path), response, () => {}) // a client that left is no news
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // it listens on TCP
  process.stderr.write(`pid ${process.pid}\nlistening on http://127.0.0.1:${port}\n`)
})
