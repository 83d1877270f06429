// What `npm run torture` is told: how long, how many kills, by which seed. Pure.

export interface TortureOptions {
  /** Whichever of the two comes first ends it. */
  readonly minutes: number
  readonly kills: number
  readonly seed: number
}

export const usage = `usage: npm run torture -- [--minutes N] [--kills N] [--seed N]
  --minutes N  play for so long (default: until the kills are played, or 60 where neither is given)
  --kills N    play so many kills
  --seed N     0 to 4294967295: which steps are killed in which order, and who is revoked (default: a new one, which is shown)`

const names = ['minutes', 'kills', 'seed'] as const
type Name = (typeof names)[number]

const isName = (text: string): text is Name => names.some(name => name === text)

/** @returns the options, or what is wrong with the arguments */
export const parseTortureOptions = (args: readonly string[], newSeed: number): TortureOptions | string => {
  const given = new Map<Name, number>()
  const rest = args.flatMap(arg => (arg.startsWith('--') && arg.includes('=') ? arg.split('=', 2) : [arg]))
  for (let at = 0; at < rest.length; at += 2) {
    const [flag = '', text = ''] = rest.slice(at)
    const name = flag.replace(/^--/, '')
    if (!flag.startsWith('--') || !isName(name)) return `unknown argument ${flag}`
    const value = Number(text)
    const whole = name === 'minutes' || Number.isInteger(value)
    if (text === '' || !Number.isFinite(value) || value < 0 || !whole || (name === 'seed' && value >= 2 ** 32))
      return `--${name} is ${text === '' ? 'missing its number' : `${text}, which is no such number`}`
    given.set(name, value)
  }
  const kills = given.get('kills') ?? Number.POSITIVE_INFINITY
  const minutes = given.get('minutes') ?? (given.has('kills') ? Number.POSITIVE_INFINITY : 60)
  return { minutes, kills, seed: given.get('seed') ?? newSeed }
}
