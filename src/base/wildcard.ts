// Patterns with `*` in them, matched without regular expressions: those try every way to divide a text among the stars, and who makes
// up the text then chooses how long that takes.

export interface Star {
  readonly atLeast: 0 | 1
  /** What no star stands for, one character; null: it stands for anything. */
  readonly never: string | null
}

/** Whether the whole text is what the pattern says, everything but `*` standing for itself. Linear in the text for each star. */
export const matchesWildcard = (pattern: string, text: string, { atLeast, never }: Star): boolean => {
  const [first = '', ...rest] = pattern.split('*')
  if (rest.length === 0) return pattern === text
  const last = rest.pop() as string
  if (!text.startsWith(first)) return false
  const isGap = (from: number, to: number): boolean =>
    to - from >= atLeast && (never === null || !text.slice(from, to).includes(never))
  let at = first.length
  // Each part where it is found first: a later place leaves less to the stars behind it, and none of them what an earlier one would not.
  for (const part of rest) {
    const found = text.indexOf(part, at + atLeast)
    if (found < 0 || !isGap(at, found)) return false
    at = found + part.length
  }
  return text.endsWith(last) && isGap(at, text.length - last.length)
}
