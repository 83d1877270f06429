// `agentca-verify serve`: its options, and the settings they mean. All of it is checked before anything is opened.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { AgentIdentityOptions } from '../../agent/settings.ts'
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import { parsePem } from '../../pki/pem.ts'
import { parseSpiffeId } from '../../pki/spiffe.ts'
import type { PrincipalKind } from '../../verify/feed-event.ts'
import { type ForwardedForHeader, forwardedForHeaders } from '../call-source.ts'
import { type CertificateFormat, certificateFormats } from './certificate-header.ts'
import { wordsOf } from './change-hook.ts'
import type { ForwardedBy } from './decide.ts'
import { durationMs } from './duration.ts'
import { SidecarError, usage } from './errors.ts'
import { isOnThisMachine, type Place, parsePlace } from './listen.ts'
import type { CommandSpec, GivenOptions } from './options.ts'
import { type Otherwise, parseRequirement, parseRequirementFile, type Requirement } from './requirements.ts'

const kinds = ['agent', 'service', 'operator'] as const

export const serveSpec: CommandSpec = {
  usage: 'agentca-verify serve --dir DIR --state DIR --listen PLACE --proxy NAME [options]',
  about: 'decides on every call of an agent: asked by a proxy, or as the proxy itself; keeps CRL files new',
  positionals: 0,
  examples: [
    'agentca-verify serve --dir orders --state state --listen unix:/run/agentca-verify/orders.sock --proxy nginx',
    "agentca-verify serve --dir orders --state state --mode http --listen 0.0.0.0:9443 --upstream 127.0.0.1:9080 --require 'GET /orders=orders:read'",
    "agentca-verify serve --dir orders --crl-file crls.pem --on-change 'nginx -s reload'",
  ],
  options: {
    dir: {
      group: 'Its own identity (a service)',
      value: 'DIR',
      help: 'credential directory, as agentca enroll makes it (AGENTCA_DIR)',
    },
    service: { value: 'NAME', help: 'the service it must be; anything else is refused' },
    url: { value: 'URL', help: 'API of the CA, to enrol at the first start (AGENTCA_URL)' },
    'ca-file': { value: 'FILE', help: "PEM of the CA's roots (AGENTCA_CA_FILE)" },
    'ca-fingerprint': { value: 'sha256:HEX', help: "instead: of a root's DER" },
    'token-file': { value: 'FILE', help: 'join token (AGENTCA_TOKEN_FILE)' },
    listen: { group: 'Where', value: 'PLACE', help: 'unix:/path/to.sock or HOST:PORT (port 0 takes a free one)' },
    mode: {
      value: 'MODE',
      choices: ['forward-auth', 'http', 'tcp'],
      help: 'asked by a proxy, or itself an mTLS proxy for HTTP or for TCP; default forward-auth',
    },
    upstream: { value: 'PLACE', help: 'http and tcp: where calls go, on this machine' },
    'socket-mode': { value: 'MODE', help: 'of a unix socket; default 0600: only its own user. 0660 lets a group ask' },
    'accept-proxy': { value: 'SPIFFE-ID', many: true, help: 'forward-auth over TCP: a proxy that may ask, by mTLS' },
    proxy: {
      group: 'How the proxy tells it (forward-auth)',
      value: 'NAME',
      choices: certificateFormats,
      help: 'form of the certificate, and the names of headers',
    },
    'certificate-header': { value: 'NAME', help: 'header with the certificate, if another than usual with this proxy' },
    'method-header': { value: 'NAME', help: 'header with the method' },
    'uri-header': { value: 'NAME', help: 'header with the path and query' },
    'forwarded-for': {
      value: 'HEADER',
      choices: forwardedForHeaders,
      help: 'where the proxy itself writes the address of its caller; default: nowhere, and nobody knows it',
    },
    intermediates: {
      value: 'FILE',
      help: "PEM of issuing CAs beside those of the sidecar's own chain; SIGHUP reads it again",
    },
    require: {
      group: 'Who may call what',
      value: "'METHOD PATH=SCOPE'",
      many: true,
      help: 'calls below this path need this scope; METHOD may be *, and SCOPE for any active agent',
    },
    otherwise: {
      value: 'WHAT',
      choices: ['allow', 'refuse'],
      help: 'calls that no rule is for; default allow: to every active agent',
    },
    'require-file': { value: 'FILE', help: 'the same, one a line; SIGHUP reads it again' },
    kind: { value: 'KIND', many: true, choices: kinds, help: 'who may call at all; default agent' },
    'assertion-header': { value: 'NAME', help: 'default Agentca-Assertion' },
    'assertion-seconds': { value: 'N', help: 'life of an assertion, 1 to 30; default 10' },
    audience: { value: 'TEXT', help: "of assertions; default the sidecar's own SPIFFE ID" },
    'public-key': { value: 'FILE', help: 'where the key that verifies assertions is written; default in --state' },
    state: {
      group: 'Freshness',
      value: 'DIR',
      help: 'the last verified state and the assertion key are kept there (0700)',
    },
    'on-stale': {
      value: 'WHAT',
      choices: ['refuse', 'allow'],
      help: 'when nothing vouches for the state any more; default refuse',
    },
    'max-staleness': { value: 'DURATION', help: 'how long it is relied on after the last contact; default 5m' },
    'status-url': { value: 'URL', help: 'where signed states are, of a mirror for instance' },
    'crl-file': {
      group: 'For servers that read CRL files',
      value: 'FILE',
      help: 'the newest verified lists, PEM, replaced by rename',
    },
    'on-change': { value: 'CMD', help: 'runs after each change of it, again until it succeeds' },
    debug: { group: 'Other', value: null, help: 'say more on standard error' },
    help: { value: null, short: 'h', help: 'show this help' },
  },
}

interface FormOf {
  readonly certificateHeader: string
  readonly callHeaders: ForwardedBy['callHeaders']
}

const original = { method: 'X-Original-Method', uri: 'X-Original-URI' }
const forwarded = { method: 'X-Forwarded-Method', uri: 'X-Forwarded-Uri' }

/** What each proxy writes by itself, or by its recipe. */
const usualForm: Readonly<Record<CertificateFormat, FormOf>> = {
  nginx: { certificateHeader: 'Agentca-Client-Certificate', callHeaders: original },
  haproxy: { certificateHeader: 'Agentca-Client-Certificate', callHeaders: original },
  caddy: { certificateHeader: 'Agentca-Client-Certificate', callHeaders: forwarded },
  traefik: { certificateHeader: 'X-Forwarded-Tls-Client-Cert', callHeaders: forwarded },
  // ext_authz asks with the method and the path of the call itself.
  envoy: { certificateHeader: 'X-Forwarded-Client-Cert', callHeaders: null },
  rfc9440: { certificateHeader: 'Client-Cert', callHeaders: original },
}

export type Serving =
  | {
      readonly mode: 'forward-auth'
      readonly by: ForwardedBy
      /** null: over a unix socket. */
      readonly proxies: readonly string[] | null
    }
  | { readonly mode: 'http'; readonly upstream: Place }
  | { readonly mode: 'tcp'; readonly upstream: Place }

export interface CallSettings {
  readonly listen: Place
  readonly socketMode: number
  readonly serving: Serving
  readonly kinds: readonly PrincipalKind[]
  readonly requirements: () => readonly Requirement[]
  readonly otherwise: Otherwise
  readonly intermediates: () => readonly Uint8Array[]
  readonly assertionHeader: string
  readonly assertionSeconds: number
  readonly audience: string | null
  readonly publicKeyPath: string | null
  readonly stateDirectory: string
  readonly onStale: 'refuse' | 'allow'
  readonly maxStaleness: string
  readonly statusUrl: string | null
}

export interface ServeSettings {
  readonly identity: AgentIdentityOptions
  /** null: only lists are kept. */
  readonly calls: CallSettings | null
  readonly lists: { readonly file: string; readonly onChange: readonly [string, ...string[]] | null } | null
  readonly debug: boolean
}

/** @throws SidecarError `file_unreadable` */
export const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new SidecarError('file_unreadable', `cannot read ${path}: ${messageOf(error)}`)
  }
}

const headerName = (option: string, name: string): string => {
  // A name with `_` or `.` would be one that the rule about spellings refuses.
  if (/^[A-Za-z0-9-]{1,64}$/.test(name)) return name
  throw usage(`--${option}: expected a header name of letters, digits and -, got "${name}"`)
}

const forwardedBy = (given: GivenOptions): ForwardedBy => {
  const format = given.need('proxy') as CertificateFormat
  const usual = usualForm[format]
  const [method, uri] = [given.one('method-header'), given.one('uri-header')]
  if ((method === null) !== (uri === null)) throw usage('--method-header and --uri-header go together')
  const callHeaders =
    method === null || uri === null
      ? usual.callHeaders
      : { method: headerName('method-header', method), uri: headerName('uri-header', uri) }
  const certificate = given.one('certificate-header') ?? usual.certificateHeader
  return {
    format,
    callHeaders,
    certificateHeader: headerName('certificate-header', certificate),
    forwardedFor: given.one('forwarded-for') as ForwardedForHeader | null,
  }
}

const spiffeIds = (ids: readonly string[]): readonly string[] =>
  ids.map(id => {
    try {
      return parseSpiffeId(id)
    } catch (error) {
      throw usage(`--accept-proxy: ${messageOf(error)}`, 'for example spiffe://example.org/service/edge')
    }
  })

const servingOf = (given: GivenOptions, listen: Place): Serving => {
  const mode = (given.one('mode') ?? 'forward-auth') as Serving['mode']
  if (mode !== 'forward-auth') {
    const upstream = parsePlace('--upstream', given.need('upstream'))
    if (!isOnThisMachine(upstream))
      throw usage(
        '--upstream is not on this machine: what goes there is not encrypted',
        'run the sidecar beside its backend',
      )
    if ('path' in listen) throw usage(`--mode ${mode} ends TLS: it listens on HOST:PORT`)
    return { mode, upstream }
  }
  if (given.has('upstream')) throw usage('--upstream is for --mode http and tcp')
  const proxies = spiffeIds(given.many('accept-proxy'))
  if ('path' in listen && proxies.length > 0)
    throw usage("--accept-proxy is for HOST:PORT: a unix socket's mode says who may ask")
  if (!('path' in listen) && proxies.length === 0)
    throw usage(
      'over TCP only named proxies may ask: --accept-proxy is missing',
      '--accept-proxy spiffe://TRUST-DOMAIN/service/NAME, or --listen unix:/path/to.sock',
    )
  return { mode, by: forwardedBy(given), proxies: 'path' in listen ? null : proxies }
}

/** Reads now, so that faults are told at the start, and again when asked; a fault then keeps what was read before. */
export type Reread = <T>(read: () => T) => () => T

const requirementsOf = (given: GivenOptions, at: (path: string) => string, reread: Reread) => {
  const file = given.one('require-file')
  const own = given.many('require').map(parseRequirement)
  return reread(() => (file === null ? own : [...own, ...parseRequirementFile(readText(at(file)), file)]))
}

const intermediatesOf = (given: GivenOptions, at: (path: string) => string, reread: Reread) => {
  const file = given.one('intermediates')
  return reread((): readonly Uint8Array[] => {
    if (file === null) return []
    try {
      return parsePem(readText(at(file)), 'CERTIFICATE')
    } catch (error) {
      if (!isAgentCaError(error) || error instanceof SidecarError) throw error
      throw new SidecarError('file_malformed', `${file}: ${error.message}`)
    }
  })
}

const socketModeOf = (text: string): number => {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8)
  throw usage(`--socket-mode: expected a mode such as 0660, got "${text}"`)
}

const duration = (text: string): string => {
  durationMs(text)
  return text
}

const secondsOf = (text: string): number => {
  const seconds = Number(text)
  if (/^[0-9]{1,2}$/.test(text) && seconds >= 1 && seconds <= 30) return seconds
  throw usage(`--assertion-seconds: expected 1 to 30, got "${text}"`)
}

const callsOf = (given: GivenOptions, at: (path: string) => string, reread: Reread): CallSettings | null => {
  const place = given.one('listen')
  if (place === null) return null
  const listen = parsePlace('--listen', place)
  const publicKey = given.one('public-key')
  return {
    listen,
    socketMode: socketModeOf(given.one('socket-mode') ?? '0600'),
    serving: servingOf(given, listen),
    kinds: given.has('kind') ? (given.many('kind') as readonly PrincipalKind[]) : ['agent'],
    requirements: requirementsOf(given, at, reread),
    otherwise: (given.one('otherwise') ?? 'allow') as Otherwise,
    intermediates: intermediatesOf(given, at, reread),
    assertionHeader: headerName('assertion-header', given.one('assertion-header') ?? 'Agentca-Assertion'),
    assertionSeconds: secondsOf(given.one('assertion-seconds') ?? '10'),
    audience: given.one('audience'),
    publicKeyPath: publicKey === null ? null : at(publicKey),
    stateDirectory: at(given.need('state')),
    onStale: (given.one('on-stale') ?? 'refuse') as 'refuse' | 'allow',
    maxStaleness: duration(given.one('max-staleness') ?? '5m'),
    statusUrl: given.one('status-url'),
  }
}

/** @throws SidecarError */
export const readServeSettings = (given: GivenOptions, cwd: string, reread: Reread): ServeSettings => {
  const at = (path: string): string => resolve(cwd, path)
  const calls = callsOf(given, at, reread)
  const [crlFile, onChange] = [given.one('crl-file'), given.one('on-change')]
  if (onChange !== null && crlFile === null) throw usage('--on-change is for --crl-file')
  if (calls === null && crlFile === null)
    throw usage('nothing to do: --listen is missing, or --crl-file', 'agentca-verify serve --help')
  const paths = { dir: 'dir', caFile: 'ca-file', tokenFile: 'token-file' } as const
  const texts = { service: 'service', url: 'url', caFingerprint: 'ca-fingerprint' } as const
  const picked = (names: Readonly<Record<string, string>>, read: (text: string) => string) =>
    Object.fromEntries(
      Object.entries(names).flatMap(([name, option]) => {
        const value = given.one(option)
        return value === null ? [] : [[name, read(value)]]
      }),
    )
  return {
    identity: { ...picked(paths, at), ...picked(texts, text => text) },
    calls,
    lists: crlFile === null ? null : { file: at(crlFile), onChange: onChange === null ? null : wordsOf(onChange) },
    debug: given.has('debug'),
  }
}
