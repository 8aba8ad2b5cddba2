/** The client of a streamed response: shows how fast it takes the bytes, and can be cut off. */
export interface Recipient {
  /** Increases with every byte that the kernel takes. Only differences have a meaning. */
  readonly takenBytes: number
  /** Bytes are ready for the client. If false, the client waits for us. */
  readonly hasUnsent: boolean
  /** Closes the connection without sending the rest. */
  cut(): void
}
