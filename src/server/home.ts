// Where everything of one CA lies under AGENTCA_HOME. Paths only: nothing is made or read here.
import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'

export interface HomePaths {
  readonly home: string
  readonly database: string
  /** What agents did: a memory, and no record. */
  readonly activity: string
  /** SoftHSM token of the online keys, its PIN files and softhsm2.conf. */
  readonly tokens: string
  /** Token of the root key: to be moved away from this machine. */
  readonly rootCeremony: string
  /** `<name>.pem`: certificates of the root and issuing CAs, as ceremonies made them. */
  readonly issuers: string
  /** Transcripts of ceremonies. */
  readonly ceremonies: string
  /** The signer's configuration, counters and latches; 0700. */
  readonly signer: string
  /** 0700. */
  readonly run: string
  readonly adminSocket: string
  readonly signerSocket: string
  /** On which fronts are heard. */
  readonly frontSocket: string
  /** What the status listener publishes. */
  readonly status: string
  /** The API's own certificate and key. */
  readonly api: string
  readonly log: string
  /** What MAC keys of external account bindings are sealed with, 0600; made at first use. */
  readonly acmeKey: string
  /** Join token of the first operator, 0600; of no use once it was used. */
  readonly firstOperatorToken: string
}

/** A unix socket's path must fit into sockaddr_un (108 octets with its end): a short directory elsewhere where it would not. */
const maxSocketPath = 100
/** Never TMPDIR: the server and the commands that look for its socket may have different ones. */
const elsewhere = '/tmp'

export const homePaths = (directory: string): HomePaths => {
  const home = resolve(directory)
  const preferred = join(home, 'run')
  const run =
    Buffer.byteLength(join(preferred, 'signer.sock')) <= maxSocketPath
      ? preferred
      : join(elsewhere, `agentca-${createHash('sha256').update(home).digest('hex').slice(0, 16)}`)
  return {
    home,
    database: join(home, 'agentca.db'),
    activity: join(home, 'activity.db'),
    tokens: join(home, 'tokens'),
    rootCeremony: join(home, 'root-ceremony'),
    issuers: join(home, 'issuers'),
    ceremonies: join(home, 'ceremonies'),
    signer: join(home, 'signer'),
    run,
    adminSocket: join(run, 'admin.sock'),
    signerSocket: join(run, 'signer.sock'),
    frontSocket: join(run, 'front.sock'),
    status: join(home, 'status'),
    api: join(home, 'api'),
    log: join(home, 'log'),
    acmeKey: join(home, 'acme.key'),
    firstOperatorToken: join(home, 'first-operator.token'),
  }
}
