// A span of time as an operator takes it in: one number, one unit.

const units = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
] as const

/** In the largest unit of which there are at least two: `90s`, `36h`, `364d`; `5m ago` for what is over. */
export const spanText = (ms: number): string => {
  const seconds = Math.round(Math.abs(ms) / 1000)
  const [unit, size] = units.find(([, each]) => seconds >= 2 * each) ?? ['s', 1]
  return `${Math.floor(seconds / size)}${unit}${ms < 0 ? ' ago' : ''}`
}
