// What ACME clients are tried with: a served CA that may probe loopback under one profile, a DNS server that says where names are, and a
// backend behind `agentca/verifier`, at which it shows whether a certificate from ACME makes an agent of its holder. One per test file.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { root as checkout } from '../../../scripts/bootstrap.mjs'
import { agentIdentity } from '../../../src/agent/index.ts'
import { type Certificate, parseCertificate } from '../../../src/pki/certificate.ts'
import { parsePem } from '../../../src/pki/pem.ts'
import { agentVerifier, type WithAgent } from '../../../src/verifier/index.ts'
import { hosts, startDnsServer } from '../../acme/validation/dns-server.ts'
import { runCommand } from '../../cli/command.ts'
import { blockWith } from '../../setup/documents.ts'
import { type Ran, runProgram, type ServedCa, startServedCa } from '../../story/served-ca.ts'

/** A name that nobody grants, so that it is probed; it means 127.0.0.1. */
export const probedName = 'probed.internal'
export const probingProfile = 'acme-probing'

export interface AcmeWorld {
  readonly ca: ServedCa
  readonly directoryUrl: string
  /** PEM. */
  readonly roots: string
  /** Where the CA looks for http-01 and for tls-alpn-01, on 127.0.0.1. */
  readonly ports: { readonly http: number; readonly tls: number }
  /** A command of an operator. @throws Error with what it said where its exit code is not 0 */
  agentca<T>(...args: readonly string[]): Promise<T>
  /** A folder of its own, with ca.pem in it. */
  folder(name: string): Promise<string>
  /** Blocks of a page as they stand there, with this CA's address in place of the one that the page has. */
  play(script: string, folder: string, env?: NodeJS.ProcessEnv): Promise<Ran>
  /** Registers an agent. @returns a binding for one account of it */
  binding(agent: string, ...args: readonly string[]): Promise<{ readonly kid: string; readonly hmacKey: string }>
  /** What the backend says to whoever shows this certificate and key: its agent's name and instance, or the status. */
  call(files: { readonly certificate: string; readonly key: string }): Promise<string>
}

const served: { world: Promise<AcmeWorld> | null; closing: (() => unknown)[] } = { world: null, closing: [] }

export const acmeWorld = (): Promise<AcmeWorld> => {
  served.world ??= createWorld()
  return served.world
}

/** For `afterAll`. */
export const endAcmeWorld = async (): Promise<void> => {
  await served.world?.catch(() => {})
  for (const close of served.closing.splice(0).toReversed()) await close()
  served.world = null
}

/** The page's one block with these words. */
export const commands = (page: string, words: string): string =>
  blockWith(`docs/integrations/${page}`, 'sh', words).text

/** The first certificate of a file. */
export const leafIn = (file: string): Certificate =>
  parseCertificate(parsePem(readFileSync(file, 'utf8'), 'CERTIFICATE')[0] as Uint8Array)

/** @throws Error with what a program said that did not end well */
export const passed = ({ code, said }: { readonly code: number; readonly said: string }): void => {
  if (code !== 0) throw new Error(`exit code ${code}: ${said}`)
}

const profilesWithProbing = (): string => {
  const profiles = mkdtempSync(join(tmpdir(), 'agentca-profiles-'))
  served.closing.push(() => rmSync(profiles, { recursive: true, force: true }))
  cpSync(join(checkout, 'ca-config/profiles'), profiles, { recursive: true })
  const challenges = 'challenges: [http-01, dns-01, tls-alpn-01]'
  writeFileSync(
    join(profiles, `${probingProfile}.yaml`),
    `kind: agent\nlifetime: 1d\ndnsNames: registration\nacme:\n  description: names that are probed\n  ${challenges}\n`,
  )
  return profiles
}

/** Free, and below the range that connections take their own ports from: a client listens there a good while later. */
const quietPort = async (): Promise<number> => {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    const server = createServer()
    const free = await new Promise<boolean>(resolve => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (free) return port
  }
}

const createWorld = async (): Promise<AcmeWorld> => {
  const dns = await startDnsServer(hosts({ [probedName]: ['127.0.0.1'] }))
  served.closing.push(() => dns[Symbol.asyncDispose]())
  const ports = { http: await quietPort(), tls: await quietPort() }
  const ca = await startServedCa({
    env: {
      ...process.env,
      AGENTCA_PROFILES: profilesWithProbing(),
      AGENTCA_ACME_VALIDATION_ALLOWEDNETWORKS: '127.0.0.0/8',
      AGENTCA_ACME_VALIDATION_RESOLVERS: dns.address,
      AGENTCA_ACME_VALIDATION_HTTPPORT: String(ports.http),
      AGENTCA_ACME_VALIDATION_TLSPORT: String(ports.tls),
    },
  })
  served.closing.push(() => ca[Symbol.asyncDispose]())
  const env = Object.fromEntries(
    Object.entries(ca.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  )
  // In this process: a command of its own takes half a second to start, and here are many.
  const agentca = async <T>(...args: readonly string[]): Promise<T> => {
    const { code, out, err } = await runCommand([...args, '-o', 'json'], { env, cwd: ca.directory })
    if (code !== 0) throw new Error(`agentca ${args.join(' ')}: exit code ${code}\n${err}`)
    return JSON.parse(out) as T
  }
  const roots = readFileSync(join(ca.home, 'issuers/root-1.pem'), 'utf8')
  const url = await startBackend(ca, agentca)
  const folder = async (name: string): Promise<string> => {
    const path = join(ca.directory, name)
    mkdirSync(path)
    writeFileSync(join(path, 'ca.pem'), roots)
    return path
  }
  return {
    ca,
    directoryUrl: `${ca.urls.api}/acme/directory`,
    ports,
    roots,
    agentca,
    folder,
    play: (script, cwd, env = {}) => {
      const text = script.replaceAll('https://127.0.0.1:8443', ca.urls.api)
      const PATH = [join(checkout, 'bin'), process.env.PATH].join(delimiter)
      return runProgram('bash', ['-ec', text], { cwd, env: { ...ca.env, ...env, PATH } })
    },
    binding: async (agent, ...args) => {
      await agentca('agent', 'create', agent, '--owner', 'finance')
      return agentca('acme', 'eab', 'create', '--agent', agent, ...args)
    },
    call: files => callBackend(url, roots, files),
  }
}

const startBackend = async (ca: ServedCa, agentca: AcmeWorld['agentca']): Promise<string> => {
  await agentca('service', 'create', 'orders', '--dns', 'localhost')
  await agentca('token', 'create', '--service', 'orders', '--file', 'orders.token')
  const tokenFile = join(ca.directory, 'orders.token')
  const identity = await agentIdentity({
    url: ca.urls.api,
    caFingerprint: ca.rootFingerprint,
    tokenFile,
    service: 'orders',
  })
  served.closing.push(() => identity[Symbol.asyncDispose]())
  const verifier = await agentVerifier({ identity, kinds: ['agent'], onStale: 'refuse', maxStaleness: '5m' })
  served.closing.push(() => verifier[Symbol.asyncDispose]())
  await verifier.ready()
  const anyAgent = verifier.express()
  const server = verifier.createServer((incoming, response) => {
    anyAgent(incoming, response, () => {
      const { agent } = incoming as WithAgent
      response.end(`${agent?.agent} ${agent?.instance}`)
    })
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  served.closing.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return `https://localhost:${(server.address() as AddressInfo).port}`
}

const callBackend = (
  url: string,
  ca: string,
  { certificate, key }: { readonly certificate: string; readonly key: string },
): Promise<string> =>
  new Promise(resolve => {
    const shown = { cert: readFileSync(certificate), key: readFileSync(key) }
    const sent = request(url, { ca, ...shown, agent: false }, response => {
      let said = ''
      response.setEncoding('utf8').on('data', chunk => {
        said += chunk
      })
      response.on('end', () => resolve(response.statusCode === 200 ? said : String(response.statusCode)))
    })
    sent.on('error', error => resolve(`no answer: ${error.message}`))
    sent.end()
  })
