// What relying parties are tried with: a served CA, the files of a service as `agentca-agent once` writes them, and those of agents:
// one good, one revoked, one of another CA, and two made of the good one: its life has ended, or its CA's keys are others. Made once per test
// file, at the first check that runs.
import { generateKeyPairSync, sign } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { signatureAlgorithms } from '../../src/pki/algorithms.ts'
import { assembleCertificate, type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { DerReader, sequence, time } from '../../src/pki/der.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { homePaths } from '../../src/server/home.ts'
import { issuingName, onlineTarget } from '../../src/server/init-places.ts'
import { type TestAuthority, testAuthority } from '../../src/testing/index.ts'
import { runCommand } from '../cli/command.ts'
import { mustRun, type ServedCa, startServedCa } from '../story/served-ca.ts'
import { until } from '../story/until.ts'

export interface CompatWorld {
  readonly ca: ServedCa
  /** `orders/`, `good/` and the others; `crls.pem` as it is now, and `crls.before.pem`, when nobody was revoked yet. */
  readonly etc: string
  /** @returns its directory */
  agent(name: string): Promise<string>
  /** @returns when the lists that the CA serves have it. */
  revoke(name: string): Promise<void>
  /** One more instance of the service. @param owner user whose the files are; null: who runs this */
  serviceFor(directory: string, owner: string | null): Promise<string>
  /** Renews a directory, by the command that timers run. @returns the new serial, lower-case hex */
  renew(directory: string): Promise<string>
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
  // Servers that run as users of their own pass through here; what lies within guards itself.
  chmodSync(ca.directory, 0o711)
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
  const roots = ['--ca-fingerprint', ca.rootFingerprint]
  const once = async (name: string, url: string, root: readonly string[], tokenFile: string): Promise<string> => {
    const directory = resolve(etc, name)
    const args = ['once', '--dir', directory, '--url', url, ...root, '--token-file', tokenFile]
    await mustRun(agentcaAgent, args, { cwd: ca.directory, env: ca.env })
    return directory
  }
  const enrolled = async (kind: 'agent' | 'service', name: string, more: readonly string[]): Promise<string> => {
    await agentca(kind, 'create', name, ...more)
    await agentca('token', 'create', `--${kind}`, name, '--file', `${name}.token`)
    const file = join(ca.directory, `${name}.token`)
    return once(name, ca.urls.api, roots, file)
  }
  const listed = async (url: string): Promise<string> => (await fetch(url)).text()
  let services = 0
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
    serviceFor: async (directory, owner) => {
      const file = join(ca.directory, `orders-${++services}.token`)
      await agentca('token', 'create', '--service', 'orders', '--file', file)
      return once(directory, ca.urls.api, [...roots, ...(owner === null ? [] : ['--owner', owner])], file)
    },
    renew: async directory => {
      await mustRun(agentcaAgent, ['once', '--force', '--dir', directory], { cwd: ca.directory, env: ca.env })
      return serialOf(directory)
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
  forgedTwin(join(etc, 'good'), join(etc, 'forged'))
  await world.revoke('revoked')
  await world.fetchLists()
  return world
}

/** Of another CA of the same trust domain. */
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
  const [leaf] = chainOf(directory)
  return Buffer.from((leaf as Certificate).serial).toString('hex')
}

const hourMs = 3_600_000

/** The elements of a to-be-signed certificate: version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, … */
const fieldsOf = (tbs: Uint8Array): Uint8Array[] => {
  const fields = new DerReader(tbs).readSequence()
  const parts: Uint8Array[] = []
  while (!fields.atEnd) parts.push(fields.readTlv().raw)
  return parts
}

const chainOf = (directory: string): readonly Certificate[] =>
  parsePem(readFileSync(join(directory, 'tls.crt'), 'utf8'), 'CERTIFICATE').map(parseCertificate)

/** The good agent's files with another chain in them. */
const twin = (good: string, directory: string, chain: readonly Uint8Array[]): void => {
  mkdirSync(directory)
  cpSync(realpathSync(good), directory, { recursive: true, dereference: true })
  const pem = chain.map(der => encodePem('CERTIFICATE', der)).join('')
  writeFileSync(join(directory, 'tls.crt'), pem)
  writeFileSync(join(directory, 'credential-bundle.pem'), readFileSync(join(good, 'tls.key'), 'utf8') + pem)
}

/**
 * The good agent's certificate with other dates and nothing else: the same serial, so that lists and OCSP call it good and only its end is
 * a reason to refuse it. The issuing CA's key signs it inside the token, because the shortest life there is lasts longer than this suite.
 */
const expiredTwin = async (ca: ServedCa, good: string, directory: string): Promise<void> => {
  const [leaf, issuing] = chainOf(good) as [Certificate, Certificate]
  const now = Date.now()
  const tbs = sequence(...fieldsOf(leaf.tbs).with(4, sequence(time(now - 2 * hourMs), time(now - hourMs))))
  const target = onlineTarget({
    config: { hsm: { sessions: 1 } },
    paths: homePaths(ca.home),
  })
  const signature = await withToken(target, token => token.findKey(issuingName).sign(tbs))
  twin(good, directory, [assembleCertificate(tbs, leaf.signatureAlgorithm, signature), issuing.der])
}

/** All names, serials and key identifiers of the good agent's chain, and its key: only the keys of the CAs are others. */
const forgedTwin = (good: string, directory: string): void => {
  const [leaf, issuing] = chainOf(good) as [Certificate, Certificate]
  const root = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = new Uint8Array(key.publicKey.export({ type: 'spki', format: 'der' }))
  const issuingTbs = sequence(...fieldsOf(issuing.tbs).with(6, spki))
  const hash = signatureAlgorithms[issuing.signatureAlgorithm].hash ?? 'sha384'
  twin(good, directory, [
    assembleCertificate(leaf.tbs, leaf.signatureAlgorithm, sign('sha256', leaf.tbs, key.privateKey)),
    assembleCertificate(issuingTbs, issuing.signatureAlgorithm, sign(hash, issuingTbs, root.privateKey)),
  ])
}
