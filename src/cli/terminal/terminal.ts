/** The process's streams: results on stdout, everything else on stderr, questions only to a person. */
import { createInterface } from 'node:readline/promises'
import { clip } from './text.ts'

/** The reader of stdout has enough (`| head -1`). */
export class OutputClosedError extends Error {
  override readonly name = 'OutputClosedError'
}

/** Output is lost, such as on a full disk. */
export class OutputLostError extends Error {
  override readonly name = 'OutputLostError'
}

/** Codes of the system, but for those of a pipe whose reader has gone. */
const LOST = /^E(?!RR_|PIPE$|CONNRESET$)/

export interface Terminal {
  /** Cells of a line on stdout; undefined: no terminal, nothing is cut. */
  readonly width: number | undefined
  /** Prints a line on stdout. Throws OutputClosedError and OutputLostError. */
  print(line: string): Promise<void>
  /** Prints a line on stderr. */
  note(line: string): void
  /** Replaces the last progress on stderr; does nothing without a terminal. Empty: removes it. */
  progress(text: string): void
  /** Whether progress is shown. */
  readonly hasProgress: boolean
  /** What Ctrl-C prints from now on; empty: nothing. */
  farewell(text: string): void
  /** Removes the progress and prints the farewell. */
  interrupt(): void
  /** undefined without a terminal to ask on. */
  confirm(question: string): Promise<boolean | undefined>
  readonly hasColors: boolean
  /** `sgr`: parameters of ECMA-48. Unchanged without colours. */
  paint(text: string, sgr: string): string
}

/** Of a terminal: `isTTY`, and its cells in a line. */
export interface Output extends NodeJS.WritableStream {
  readonly isTTY?: boolean
  readonly columns?: number
}

export interface Streams {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
}

const DEFAULT_WIDTH = 80

export function createTerminal({ stdin, stdout, stderr, env }: Streams): Terminal {
  let closedBy: unknown
  let isProgressShown = false
  let lastWords = ''
  stdout.on('error', (error) => {
    closedBy ??= error
  })
  stderr.on('error', () => {})
  const hasColors = stdout.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  const widthOf = (stream: Output) => stream.columns || DEFAULT_WIDTH

  function clear(): void {
    if (isProgressShown) stderr.write('\r\u001b[K')
    isProgressShown = false
  }

  function note(line: string): void {
    clear()
    stderr.write(`${line}\n`)
  }

  return {
    width: stdout.isTTY ? widthOf(stdout) : undefined,

    async print(line) {
      clear()
      const failure = await new Promise<unknown>((resolve) => stdout.write(`${line}\n`, resolve))
      const reason = closedBy ?? failure
      if (!reason) return
      const { code } = Object(reason)
      if (!LOST.test(code)) throw new OutputClosedError('stdout is closed')
      throw new OutputLostError(`stdout cannot be written: ${code}`)
    },

    note,
    hasProgress: stderr.isTTY === true,

    progress(text) {
      if (!stderr.isTTY) return
      clear()
      isProgressShown = text !== ''
      // The rest of the line has room for the ^C that a terminal shows.
      if (isProgressShown) stderr.write(clip(text, widthOf(stderr) - 3))
    },

    farewell(text) {
      lastWords = text
    },

    interrupt() {
      clear()
      if (lastWords !== '') note(lastWords)
    },

    async confirm(question) {
      if (!stdin.isTTY || !stderr.isTTY) return undefined
      clear()
      const reader = createInterface({ input: stdin, output: stderr })
      // Ctrl-C and Ctrl-D close it: no.
      const closed = new Promise<undefined>((resolve) => {
        reader.once('close', () => resolve(undefined))
      })
      try {
        const response = await Promise.race([reader.question(`${question} [y/N] `), closed])
        if (response === undefined) stderr.write('\n')
        return /^y(es)?$/i.test(response?.trim() ?? '')
      } finally {
        reader.close()
      }
    },

    hasColors,
    paint: (text, sgr) => (hasColors ? `\u001b[${sgr}m${text}\u001b[0m` : text),
  }
}
