// When what arrives was said, on the listener's own monotonic clock. A heartbeat that lay in a buffer for a minute vouches for a minute ago,
// and neither the listener's clock nor the speaker's may be wrong enough to hide it: only what passed between two of them is believed.

export interface SaidAt {
  /**
   * @param at the speaker's clock, milliseconds @param arrived monotonic, of the listener @param asked monotonic: when the listener
   * asked for what came, which cannot be older
   * @returns monotonic: not after `arrived`, never before `asked` and what was returned the last time
   */
  of(at: number, arrived: number, asked?: number): number
}

/**
 * Two clocks run apart, and a speaker's that was put back makes everything later seem old: so much of what passes is forgiven, a hundred
 * times what quartz is wrong by and a thousandth of what a buffer hides.
 */
const forgiven = 0.001

/** For one speaker. The first that is heard counts as said when it arrived. */
export const createSaidAt = (): SaidAt => {
  let last: { readonly at: number; readonly arrived: number; readonly said: number } | null = null
  return {
    of: (at, arrived, asked = Number.NEGATIVE_INFINITY) => {
      const passed = last === null ? 0 : Math.max(0, at - last.at) + (arrived - last.arrived) * forgiven
      const said = last === null ? arrived : Math.min(arrived, Math.max(asked, last.said + passed))
      last = { at, arrived, said }
      return said
    },
  }
}
