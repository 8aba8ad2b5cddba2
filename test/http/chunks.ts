/** A download of a few chunks, as tests of turns send it. */

export const CHUNKS = 5

export async function* body() {
  for (let nth = 0; nth < CHUNKS; nth += 1) yield Buffer.alloc(1)
}

export const unheard = () => Promise.reject(new Error('who ends an exchange asks for its line'))
