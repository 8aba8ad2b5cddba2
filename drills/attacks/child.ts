/** Child processes for parts that must not wait for each other: one question at a time, one reply each. */
import { fork } from 'node:child_process'
import { once } from 'node:events'

export interface Child<Question, Reply> {
  /** Rejects if the process ends before it replies. */
  ask(question: Question): Promise<Reply>
  end(): Promise<void>
}

type Sent<Reply> = { readonly reply: Reply } | { readonly error: string }

/** `module`: a path relative to this one; it calls `serve`. */
export function startChild<Question extends object, Reply>(module: string): Child<Question, Reply> {
  const child = fork(new URL(module, import.meta.url))
  let isEnding = false
  const exited = once(child, 'exit')
  const died = exited.then(([code, signal]) => {
    throw new Error(`${module} ended with ${signal ?? `exit code ${code}`}`)
  })
  died.catch(() => {}) // the caller of `ask` receives it
  return {
    async ask(question) {
      child.send(question)
      const [sent] = (await Promise.race([once(child, 'message'), died])) as [Sent<Reply>] // see serve
      if ('error' in sent) throw new Error(`${module}: ${sent.error}`)
      return sent.reply
    },
    async end() {
      if (!isEnding) child.kill('SIGKILL')
      isEnding = true
      await exited
    },
  }
}

/** Replies to each question of the parent process, and ends with it. */
export function serve<Question, Reply>(response: (question: Question) => Promise<Reply>): void {
  process.on('message', (question) => {
    response(question as Question).then(
      (reply) => process.send?.({ reply }),
      (error: unknown) => process.send?.({ error: String(error) }),
    )
  })
  process.once('disconnect', () => process.exit())
}
