// What `npm run fuzz` is told. Pure.

export interface FuzzOptions {
  /** Names of targets; empty: all. */
  readonly names: readonly string[]
  readonly secondsEach: number
  readonly seed: number
  readonly keep: boolean
  readonly list: boolean
}

export const usage = `usage: npm run fuzz -- [TARGET…] [--seconds N | --total N] [--seed N] [--keep] [--list]
  --seconds N  for each target (default 600)
  --total N    for all of them together
  --seed N     which mutations are tried (default: a new one, which is shown)
  --keep       inputs that reached something new go into test/fuzz/corpus
  --list       the targets`

/** @returns the options, or what is wrong with the arguments */
export const parseFuzzOptions = (
  args: readonly string[],
  { known, newSeed }: { readonly known: readonly string[]; readonly newSeed: number },
): FuzzOptions | string => {
  const names: string[] = []
  const flags = new Set<string>()
  const numbers = new Map<string, number>()
  const rest = args.flatMap(arg => (arg.startsWith('--') && arg.includes('=') ? arg.split('=', 2) : [arg]))
  for (let at = 0; at < rest.length; at++) {
    const arg = rest[at] as string
    if (arg === '--keep' || arg === '--list') flags.add(arg)
    else if (arg === '--seconds' || arg === '--total' || arg === '--seed') {
      const text = rest[++at] ?? ''
      if (!/^\d+(?:\.\d+)?$/.test(text)) return `${arg} wants a number`
      numbers.set(arg, Number(text))
    } else if (known.includes(arg)) names.push(arg)
    else return `${arg} is no target: --list shows them`
  }
  const total = numbers.get('--total')
  if (total !== undefined && numbers.has('--seconds')) return 'expected --seconds or --total, got both'
  const count = names.length === 0 ? known.length : names.length
  return {
    names,
    secondsEach: total === undefined ? (numbers.get('--seconds') ?? 600) : total / count,
    seed: Math.floor(numbers.get('--seed') ?? newSeed) % 2 ** 32,
    keep: flags.has('--keep'),
    list: flags.has('--list'),
  }
}
