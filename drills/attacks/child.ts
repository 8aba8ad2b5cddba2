/** A process of its own for each part that must not wait for the others: one question at a time, one reply each. */
import { fork } from 'node:child_process'
import { once } from 'node:events'

export interface Child<Question, Reply> {
  /** Rejects where the process ends before it has replied. */
  ask(question: Question): Promise<Reply>
  end(): Promise<void>
}

type Sent<Reply> = { readonly reply: Reply } | { readonly error: string }

/** `module`: beside this one; it calls `serve`. */
export function startChild<Question extends object, Reply>(module: string): Child<Question, Reply> {
  const child = fork(new URL(module, import.meta.url))
  let isEnding = false
  const exited = once(child, 'exit')
  const died = exited.then(([code, signal]) => {
    throw new Error(`${module} ended with ${signal ?? `exit code ${code}`}`)
  })
  died.catch(() => {}) // whoever asks is told
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

/** Replies to each question of the process that forked this one, and ends with it. */
export function serve<Question, Reply>(response: (question: Question) => Promise<Reply>): void {
  process.on('message', (question) => {
    response(question as Question).then(
      (reply) => process.send?.({ reply }),
      (error: unknown) => process.send?.({ error: String(error) }),
    )
  })
  process.once('disconnect', () => process.exit())
}
