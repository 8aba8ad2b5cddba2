/** A list that only grows; callers can wait for an item. */
export class WatchedList<T> {
  readonly items: T[] = []
  readonly #watchers = new Set<(item: T) => void>()

  add(item: T): void {
    this.items.push(item)
    for (const watch of this.#watchers) watch(item)
  }

  /** The first fitting item, past or to come; rejects after `timeoutMs`, naming `what`. */
  waitFor(fits: (item: T) => boolean, what: string, timeoutMs: number): Promise<T> {
    const past = this.items.find(fits)
    if (past !== undefined) return Promise.resolve(past)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(watch)
        reject(new Error(`${what} did not come within ${timeoutMs} ms`))
      }, timeoutMs)
      const watch = (item: T) => {
        if (!fits(item)) return
        clearTimeout(timer)
        this.#watchers.delete(watch)
        resolve(item)
      }
      this.#watchers.add(watch)
    })
  }
}
