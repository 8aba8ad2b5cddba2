/** Cleanups at the exit of this process, for what nobody else ends if it breaks; one listener, however many there are. */
const endings = new Set<() => void>()

/** Registers a cleanup for the exit; returns a function that removes it. */
export function atExit(end: () => void): () => void {
  if (endings.size === 0) process.once('exit', endAll)
  endings.add(end)
  return () => {
    endings.delete(end)
    if (endings.size === 0) process.off('exit', endAll)
  }
}

function endAll(): void {
  for (const end of endings) end()
}
