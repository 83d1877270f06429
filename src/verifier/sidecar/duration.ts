// Durations as options take them.
import { usage } from './errors.ts'

const unitMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `90s`, `5m`, `1h`. @throws SidecarError `usage` */
export const durationMs = (text: string): number => {
  const match = /^([1-9][0-9]{0,6})([smhd])$/.exec(text)
  if (match === null) throw usage(`--max-staleness: expected a duration such as 90s, 5m or 1h, got "${text}"`)
  return Number(match[1]) * (unitMs[match[2] as string] as number)
}
