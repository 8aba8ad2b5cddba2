/** An invalid command line or environment: exit code 2. The message says what to give. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
