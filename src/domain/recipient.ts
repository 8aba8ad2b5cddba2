/** The client's end of a response that is streamed to it: how fast it takes the bytes, and the way to end it. */
export interface Recipient {
  /** Grows with every byte that the kernel takes for the client. Only differences mean anything. */
  readonly takenBytes: number
  /** Bytes are ready for the client. If not, the client waits for us. */
  readonly hasUnsent: boolean
  /** Closes the connection, whatever is still to be sent. */
  cut(): void
}
