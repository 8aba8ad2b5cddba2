/** What a check finds. */

export interface Finding {
  /** Such as `database`. */
  readonly area: string
  /** null: there is nothing to check, which is no fault. */
  readonly isGood: boolean | null
  /** One sentence; of a fault, with what to do. */
  readonly text: string
}

export const good = (area: string, text: string): Finding => ({ area, isGood: true, text })
export const fault = (area: string, text: string): Finding => ({ area, isGood: false, text })
export const skipped = (area: string, text: string): Finding => ({ area, isGood: null, text })
