/** What a document shows of an output, and what was printed, made comparable. */

/**
 * Only what differs from run to run: ids (numbered in the order of their appearance, so that the same one
 * is the same), secrets, signatures, times, ages, latencies, our version, free space, the directory and the port. All else
 * must be equal.
 */
export function normalizer(): (text: string) => string {
  const ids = new Map<string, string>()
  const idOf = (id: string) => {
    if (!ids.has(id)) ids.set(id, `<id ${ids.size + 1}>`)
    return ids.get(id) ?? id
  }
  return (text) =>
    text
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, idOf)
      .replace(/("hmac2?": ")[0-9a-f]{64}"/g, '$1<signature>"')
      .replace(/(?<![\w-])([ed]t_)?[A-Za-z0-9_-]{43}(?=")/g, '$1<secret>')
      .replace(/\bet_[A-Za-z0-9_-]{43}\b/g, '<secret>')
      .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z/g, '<time>')
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?/g, '<time>')
      .replace(/(?<!\d)\d\d:\d\d:\d\d\.\d{3}(?!\d)/g, '<time>')
      .replace(/version \d+\.\d+\.\d+/g, 'version <version>')
      .replace(/ +\d+\.\d ms\b/g, ' <ms>')
      .replace(/\d+ (s|min|h|d) ago/g, '<age>')
      .replace(/(\/[\w.-]+)+: \d+ MiB free/g, '<directory>: <free>')
      .replace(/,\d+(\.\d+)?(?=\])/g, ',<ms>')
      .replace(/(\/[\w.-]+)+(?=\/data\/)/g, '<directory>')
      .replace(/(?<=\S) {2,}/g, '  ') // columns are as wide as what stands in them
      .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>')
      .trimEnd()
}
