// What can be read at which path. Paths are looked up, never joined or resolved: there is nothing to climb out of. Each resource keeps
// its representation until its source has another value.
import { createHash } from 'node:crypto'
import { utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Issuers, IssuerView } from '../ca/issuers.ts'
import type { CrlSource } from '../ca/status-answers.ts'
import { parseShardName, type Shard } from '../pki/crl-shards.ts'
import { encodePem } from '../pki/pem.ts'
import { type Content, type Representation, represent } from './representation.ts'
import { encodeSpiffeBundle, refreshHintSeconds } from './spiffe-bundle.ts'

export interface ResourcesDeps {
  readonly clock: Clock
  readonly crls: CrlSource
  readonly issuers: Pick<Issuers, 'all' | 'byName' | 'bundlePem'>
  /** The signed note; null: none yet. */
  readonly latestCheckpoint: () => string | null
  /** The log key, PEM PUBLIC KEY; undefined: this server shows none. */
  readonly logKeyPem?: string | undefined
  /** Files of the signed state by their names; null: there is none. Undefined: this server publishes none. */
  readonly stateFile?: ((name: string) => StateFile | null) | undefined
}

export interface StateFile {
  readonly bytes: Uint8Array
  /** What is under this name never changes. */
  readonly immutable: boolean
}

/** null: there is nothing now. */
export type Resource = () => Representation | null

export interface Resources {
  /** A path as it is written canonically. */
  find(path: string): Resource | null
}

/** So long at most may a cache hold back a revocation, or a new root. */
const maxAgeSeconds = 300
const checkpointMaxAgeSeconds = 10
/** Published again twice a minute, and after each change. */
const stateHeadMaxAgeSeconds = 5
const immutableMaxAgeSeconds = 31_536_000
/** A CA's certificate never changes. */
const certificateMaxAgeSeconds = 86_400

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

const plain = (type: string, bytes: Uint8Array, maxAge: number): Content =>
  tagged(type, bytes, { maxAge, tag: sha256(bytes) })

const tagged = (type: string, bytes: Content['bytes'], { maxAge, tag }: { maxAge: number; tag: string }): Content => ({
  type,
  bytes,
  tag,
  lastModified: null,
  goodUntil: null,
  maxAgeSeconds: maxAge,
  directives: 'must-revalidate',
  expires: false,
})

interface Dated {
  readonly sha256: string
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** Also past its end: it tells why a caller is refused, and a relying party that has something newer keeps that. */
const crlContent = (
  type: string,
  bytes: Content['bytes'],
  { sha256: tag, thisUpdate, nextUpdate }: Dated,
): Content => ({
  ...tagged(type, bytes, { maxAge: maxAgeSeconds, tag }),
  lastModified: thisUpdate,
  goodUntil: nextUpdate,
})

const pemType = 'application/x-pem-file'

const certificatesOf = (all: readonly IssuerView[]): string =>
  all.map(({ certificate }) => encodePem('CERTIFICATE', certificate.der)).join('')

const stateContent = (name: string, { bytes, immutable }: StateFile): Content =>
  immutable
    ? { ...tagged('application/jsonl', bytes, { maxAge: immutableMaxAgeSeconds, tag: name }), directives: 'immutable' }
    : plain(name.endsWith('.json') ? 'application/json' : 'text/plain; charset=utf-8', bytes, stateHeadMaxAgeSeconds)

/** Names come and go, and a file may be large: what is made of it lives as long as its bytes. */
const createStateFiles = ({ clock, stateFile }: Pick<ResourcesDeps, 'clock' | 'stateFile'>) => {
  const made = new WeakMap<Uint8Array, Representation>()
  return (name: string): Representation | null => {
    const file = stateFile?.(name) ?? null
    if (file === null) return null
    const known = made.get(file.bytes) ?? represent(stateContent(name, file), clock.now(), null)
    made.set(file.bytes, known)
    return known
  }
}

export const createResources = (deps: ResourcesDeps): Resources => {
  const { clock, crls, issuers, latestCheckpoint, logKeyPem } = deps
  const stateFiles = createStateFiles(deps)
  const resource = <T extends object | string>(read: () => T | null, contentOf: (value: T) => Content): Resource => {
    let value: T | null = null
    let made: Representation | null = null
    return () => {
      const present = read()
      if (present === null) return null
      if (present !== value) {
        made = represent(contentOf(present), clock.now(), made)
        value = present
      }
      return made
    }
  }
  const crl = (name: string): Resource =>
    resource(
      () => crls.byIssuer(name),
      list => crlContent('application/pkix-crl', list.der, list),
    )
  const shard = (name: string, of: Shard): Resource =>
    resource(
      () => crls.shardOf(name, of),
      list => crlContent('application/pkix-crl', list.der, list),
    )
  const certificate = (name: string): Resource =>
    resource(
      () => issuers.byName(name),
      view => plain('application/pkix-cert', view.certificate.der, certificateMaxAgeSeconds),
    )
  // Owned by this closure. Grows with the CAs there are, not with the paths that are asked for.
  const known = new Map<string, Resource>([
    [
      '/crl/bundle.pem',
      resource(
        () => (crls.bundle().pem.length === 0 ? null : crls.bundle()),
        bundle => crlContent(pemType, bundle.pem, bundle),
      ),
    ],
    // Whoever reads the bundle of lists verifies each with one of these.
    ['/aia/bundle.pem', resource(issuers.all, all => plain(pemType, utf8(certificatesOf(all)), maxAgeSeconds))],
    ['/bundle', resource(issuers.bundlePem, pem => plain(pemType, utf8(pem), maxAgeSeconds))],
    [
      '/bundle.json',
      resource(issuers.all, all => plain('application/json', utf8(encodeSpiffeBundle(all)), refreshHintSeconds)),
    ],
    [
      '/log/checkpoint',
      resource(latestCheckpoint, note => plain('text/plain; charset=utf-8', utf8(note), checkpointMaxAgeSeconds)),
    ],
  ])
  if (logKeyPem !== undefined)
    known.set(
      '/log/key',
      resource(
        () => logKeyPem,
        pem => plain(pemType, utf8(pem), maxAgeSeconds),
      ),
    )

  const ofShard = (path: string): Resource | null => {
    const [, name = '', text = ''] = /^\/crl\/([^/]+)\/([^/]+)\.crl$/.exec(path) ?? []
    const of = parseShardName(text)
    return of === null || crls.shardOf(name, of) === null ? null : shard(name, of)
  }
  const ofIssuer = (path: string): Resource | null => {
    const [, folder, name = ''] = /^\/(crl|aia)\/([^/]+)\.(?:crl|cer)$/.exec(path) ?? []
    if (folder === undefined || issuers.byName(name) === null) return null
    if (folder === 'crl') return path.endsWith('.crl') ? crl(name) : null
    return path.endsWith('.cer') ? certificate(name) : null
  }
  return {
    find: path => {
      const found = known.get(path)
      if (found !== undefined) return found
      const [, state] = /^\/state\/([^/]+)$/.exec(path) ?? []
      if (state !== undefined) return () => stateFiles(state)
      const made = ofIssuer(path) ?? ofShard(path)
      if (made !== null) known.set(path, made)
      return made
    },
  }
}
