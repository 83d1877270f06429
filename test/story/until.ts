// Waiting for a condition, never for a time. The bound only ends a story that has failed.
import { setTimeout as delay } from 'node:timers/promises'

const boundMs = 90_000

/** @throws Error that names what never came, with what `state` says */
export const until = async (
  what: string,
  condition: () => boolean | Promise<boolean>,
  state: () => unknown = () => '',
): Promise<void> => {
  const end = performance.now() + boundMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`never: ${what} ${JSON.stringify(state())}`)
    await delay(10)
  }
}
