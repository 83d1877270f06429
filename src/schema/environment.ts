// Which variables of the environment are the configuration's, and which of those that look like it are nobody's: a name that is mistyped
// would otherwise leave a setting at its default without a word.

/** `a.bC` as AGENTCA_A_BC and, for people, as AGENTCA_A_B_C. */
export const environmentNames = (path: readonly string[]): readonly string[] => [
  ...new Set([
    `AGENTCA_${path.join('_').toUpperCase()}`,
    `AGENTCA_${path
      .join('_')
      .replace(/([a-z])([A-Z])/g, '$1_$2')
      .toUpperCase()}`,
  ]),
]

/** Of commands, of agents and of what they run beside a server: none of them is a key of the file. */
const others: ReadonlySet<string> = new Set([
  'AGENTCA_HOME',
  'AGENTCA_CONFIG',
  'AGENTCA_URL',
  'AGENTCA_DIR',
  'AGENTCA_CA_FILE',
  'AGENTCA_TOKEN_FILE',
  'AGENTCA_TOKEN_FD',
  'AGENTCA_JWT_FILE',
  'AGENTCA_EVIDENCE_CERTIFICATE',
  'AGENTCA_EVIDENCE_KEY',
])
const otherPrefixes: readonly string[] = ['ADMIN', 'AGENT', 'VERIFY', 'TESTS', 'STORY', 'BENCH'].map(
  each => `AGENTCA_${each}`,
)

/** Kubernetes tells every container about its Services in such names; one that is called agentca, or agentca-status, is likely. */
const isOfKubernetes = (name: string, value: string): boolean =>
  /_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$/.test(name) ||
  /_PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?$/.test(name) ||
  (name.endsWith('_PORT') && /^(?:tcp|udp|sctp):\/\//.test(value))

const isOther = (name: string, value: string): boolean =>
  others.has(name) ||
  otherPrefixes.some(prefix => name === prefix || name.startsWith(`${prefix}_`)) ||
  isOfKubernetes(name, value)

/** Insertions, removals and exchanges of one character, and of two neighbours as one. */
const distance = (a: string, b: string): number => {
  let [before, last] = [[] as number[], Array.from({ length: b.length + 1 }, (_, i) => i)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const edited = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + cost)
      row.push(swapped ? Math.min(edited, before[j - 2]! + 1) : edited)
    }
    ;[before, last] = [last, row]
  }
  return last[b.length]!
}

export interface UnknownVariable {
  readonly name: string
  /** The known one that it is most like. */
  readonly nearest: string
}

/**
 * Variables that begin like the configuration's and are no one's, in the order of their names.
 * @param known every name that stands for a key of the file
 */
export const unknownVariables = (
  env: Readonly<Record<string, string | undefined>>,
  known: ReadonlySet<string>,
): readonly UnknownVariable[] =>
  Object.entries(env)
    .filter(([name, value]) => name.startsWith('AGENTCA_') && value !== undefined && !known.has(name))
    .filter(([name, value]) => !isOther(name, value as string))
    .map(([name]) => ({ name, nearest: nearestOf(name, [...known, ...others]) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))

const nearestOf = (name: string, known: readonly string[]): string =>
  known.reduce((best, each) => (distance(name, each) < distance(name, best) ? each : best))
