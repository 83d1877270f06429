// What relying parties are tried with: a served CA, the files of a service as `agentca-agent once` writes them, and those of four agents:
// one good, one revoked, one whose life has ended, one of another CA. Made once per test file, at the first check that runs.
import { cpSync, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { assembleCertificate, parseCertificate } from '../../src/pki/certificate.ts'
import { DerReader, sequence, time } from '../../src/pki/der.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { homePaths } from '../../src/server/home.ts'
import { issuingName, onlineTarget } from '../../src/server/init-places.ts'
import { type TestAuthority, testAuthority } from '../../src/testing/index.ts'
import { runCommand } from '../cli/command.ts'
import { mustRun, type ServedCa, startServedCa } from '../story/served-ca.ts'
import { until } from '../story/until.ts'

/** Each a directory of files; `bare` is without an identity. */
export const castNames = ['good', 'revoked', 'expired', 'foreign'] as const
export type CastName = (typeof castNames)[number]

export interface CompatWorld {
  readonly ca: ServedCa
  /** `orders/`, `good/` and the others; `crls.pem` as it is now, and `crls.before.pem`, when nobody was revoked yet. */
  readonly etc: string
  /** @returns its directory */
  agent(name: string): Promise<string>
  /** @returns when the lists that the CA serves have it. */
  revoke(name: string): Promise<void>
  /** Renews the service's files, by the command that timers run. @returns the new serial, lower-case hex */
  renewOrders(): Promise<string>
  /** `/crl/bundle.pem` into crls.pem, by rename. */
  fetchLists(): Promise<void>
}

const served: { world: Promise<CompatWorld> | null; closing: AsyncDisposable[] } = { world: null, closing: [] }

export const compatWorld = (): Promise<CompatWorld> => {
  served.world ??= createWorld()
  return served.world
}

/** For `afterAll`. */
export const endWorld = async (): Promise<void> => {
  await served.world?.catch(() => {})
  for (const each of served.closing.splice(0).toReversed()) await each[Symbol.asyncDispose]()
  served.world = null
}

const agentcaAgent = join(checkout, 'bin/agentca-agent')

const createWorld = async (): Promise<CompatWorld> => {
  const ca = await startServedCa()
  served.closing.push(ca)
  const etc = join(ca.directory, 'etc')
  mkdirSync(etc)
  const env = Object.fromEntries(Object.entries(ca.env).filter(entry => entry[1] !== undefined)) as Record<
    string,
    string
  >
  // In this process: a command of its own takes half a second to start, and here are many.
  const agentca = async (...args: readonly string[]): Promise<string> => {
    const { code, out, err } = await runCommand(args, { env, cwd: ca.directory })
    if (code !== 0) throw new Error(`agentca ${args.join(' ')}: exit code ${code}\n${out}${err}`)
    return out
  }
  const once = async (name: string, url: string, root: readonly string[], tokenFile: string): Promise<string> => {
    const args = ['once', '--dir', join(etc, name), '--url', url, ...root, '--token-file', tokenFile]
    await mustRun(agentcaAgent, args, { cwd: ca.directory, env: ca.env })
    return join(etc, name)
  }
  const enrolled = async (kind: 'agent' | 'service', name: string, more: readonly string[]): Promise<string> => {
    await agentca(kind, 'create', name, ...more)
    await agentca('token', 'create', `--${kind}`, name, '--file', `${name}.token`)
    const file = join(ca.directory, `${name}.token`)
    return once(name, ca.urls.api, ['--ca-fingerprint', ca.rootFingerprint], file)
  }
  const listed = async (url: string): Promise<string> => (await fetch(url)).text()
  const world: CompatWorld = {
    ca,
    etc,
    agent: name => enrolled('agent', name, ['--owner', 'finance']),
    revoke: async name => {
      const serial = serialOf(join(etc, name))
      await agentca('revoke', '--agent', name, '--reason', 'keyCompromise', '--yes')
      await until(`the list names ${name}`, async () => {
        writeFileSync(join(ca.directory, 'seen.pem'), await listed(`${ca.urls.status}/crl/bundle.pem`))
        const args = ['crl', '-in', 'seen.pem', '-noout', '-text']
        return (await mustRun('openssl', args, { cwd: ca.directory })).toLowerCase().includes(serial)
      })
    },
    renewOrders: async () => {
      const args = ['once', '--force', '--dir', join(etc, 'orders')]
      await mustRun(agentcaAgent, args, { cwd: ca.directory, env: ca.env })
      return serialOf(join(etc, 'orders'))
    },
    fetchLists: async () => {
      writeFileSync(join(etc, 'crls.new'), await listed(`${ca.urls.status}/crl/bundle.pem`))
      renameSync(join(etc, 'crls.new'), join(etc, 'crls.pem'))
    },
  }
  await Promise.all([
    enrolled('service', 'orders', ['--dns', 'orders.internal', '--dns', 'localhost']),
    world.agent('good'),
    world.agent('revoked'),
    foreignAgent(once),
  ])
  await world.fetchLists()
  renameSync(join(etc, 'crls.pem'), join(etc, 'crls.before.pem'))
  await expiredTwin(ca, join(etc, 'good'), join(etc, 'expired'))
  await world.revoke('revoked')
  await world.fetchLists()
  return world
}

/** Of another CA with the same trust domain and names: only its keys are different. */
const foreignAgent = async (
  once: (name: string, url: string, root: readonly string[], tokenFile: string) => Promise<string>,
): Promise<void> => {
  const other: TestAuthority = await testAuthority()
  try {
    await once('foreign', other.url, ['--ca-file', other.caFile], await other.token('agent', 'good'))
  } finally {
    await other[Symbol.asyncDispose]()
  }
}

/** Of the leaf in a directory, lower-case hex. */
export const serialOf = (directory: string): string => {
  const [leaf] = parsePem(readFileSync(join(directory, 'tls.crt'), 'utf8'), 'CERTIFICATE')
  return Buffer.from(parseCertificate(leaf as Uint8Array).serial).toString('hex')
}

const hourMs = 3_600_000

/**
 * The good agent's certificate with other dates and nothing else: the same serial, so that lists and OCSP call it good and only its end is
 * a reason to refuse it. The issuing CA's key signs it inside the token, because the shortest life there is lasts longer than this suite.
 */
const expiredTwin = async (ca: ServedCa, good: string, directory: string): Promise<void> => {
  mkdirSync(directory)
  cpSync(realpathSync(good), directory, { recursive: true, dereference: true })
  const chain = parsePem(readFileSync(join(good, 'tls.crt'), 'utf8'), 'CERTIFICATE')
  const leaf = parseCertificate(chain[0] as Uint8Array)
  const fields = new DerReader(leaf.tbs).readSequence()
  const parts: Uint8Array[] = []
  while (!fields.atEnd) parts.push(fields.readTlv().raw)
  const now = Date.now()
  // version, serialNumber, signature, issuer, validity
  parts[4] = sequence(time(now - 2 * hourMs), time(now - hourMs))
  const tbs = sequence(...parts)
  const target = onlineTarget({ config: { hsm: {} } as never, paths: homePaths(ca.home) })
  const signature = await withToken(target, token => token.findKey(issuingName).sign(tbs))
  const twin = assembleCertificate(tbs, leaf.signatureAlgorithm, signature)
  const pem = [twin, ...chain.slice(1)].map(der => encodePem('CERTIFICATE', der)).join('')
  const key = readFileSync(join(good, 'tls.key'), 'utf8')
  writeFileSync(join(directory, 'tls.crt'), pem)
  writeFileSync(join(directory, 'credential-bundle.pem'), key + pem)
}
