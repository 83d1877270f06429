// To-be-signed bytes as rows hold them. Those of one issuer and one profile are the same but for what the row says beside them (serial,
// times, name, instance, version) and the public key: the rest is kept once, as a template, and a row has the number of its template and
// the key. Bytes that a template does not give back octet for octet are kept as they are.
import type { Connection } from './connection.ts'

/** What the row and its registration say. */
export interface TbsFacts {
  readonly serial: Uint8Array
  /** Milliseconds since the epoch. */
  readonly notBefore: number
  readonly notAfter: number
  readonly name: string
  readonly instanceId: string
  readonly registrationVersion: number
}

/** Whole bytes, or what a template leaves open. */
export interface StoredTbs {
  readonly template: number | null
  readonly bytes: Uint8Array
}

/** `kind`: what templates are looked for by beside the length; the more it says, the fewer are tried. */
export interface TbsCodec {
  /**
   * Only inside a transaction: a template may be added.
   * @param registered of a leaf whose host names its requester chose: those of the registration. Others make no template: they can be
   * put together in more ways than there is room for.
   */
  store(tbs: Uint8Array, facts: TbsFacts, kind: string, registered?: readonly string[]): StoredTbs
  /** @throws RangeError for a template that is not there */
  whole(stored: StoredTbs, facts: TbsFacts): Uint8Array
}

type Part = 'serial' | 'notBefore' | 'notAfter' | 'name' | 'instance' | 'version' | 'key' | 'shard'
/** `of`: into how many shards revocation lists are divided. */
type Place = readonly [part: Part, at: number, length: number, of?: number]

interface Template {
  readonly id: number
  readonly bytes: Uint8Array
  readonly places: readonly Place[]
}

/** RFC 5480 §2.1: id-ecPublicKey, secp256r1, an uncompressed point; the point's 64 octets follow. */
const p256Header = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')
const pointOctets = 64

/** A few for each length of a name are usual; what differs each time is no template. */
const maxTemplates = 4_096
const maxTried = 8

/** RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from then on. */
const timeText = (ms: number): string => {
  const digits = new Date(Math.floor(ms / 1000) * 1000).toISOString().replaceAll(/[-:T]|\.000/g, '')
  return digits < '2050' ? digits.slice(2) : digits
}

// Times repeat for thousands of certificates in a second. Owned by this module.
const lastTimes = new Map<number, string>()
const timeOf = (ms: number): string => {
  const second = Math.floor(ms / 1000)
  let text = lastTimes.get(second)
  if (text === undefined) {
    text = timeText(ms)
    if (lastTimes.size >= 64) lastTimes.clear()
    lastTimes.set(second, text)
  }
  return text
}

// Owned by this module, used by one call at a time.
const room = Buffer.alloc(4_096)

const putVersion = (at: number, length: number, version: number): void => {
  let rest = version
  for (let i = at + length - 1; i >= at; i--) {
    room[i] = rest % 256
    rest = Math.floor(rest / 256)
  }
}

/** The shard that a serial belongs to, as the distribution point names it. */
const shardText = ({ serial }: TbsFacts, of = 1): string =>
  String(Math.floor(((serial[serial.length - 1] ?? 0) * of) / 256) + 1)

/** Fills the template in `room`. */
const fill = ({ bytes, places }: Template, facts: TbsFacts, key: Uint8Array): Buffer => {
  room.set(bytes)
  for (const [part, at, length, of] of places) {
    if (part === 'serial') room.set(facts.serial, at)
    else if (part === 'key') room.set(key, at)
    else if (part === 'version') putVersion(at, length, facts.registrationVersion)
    else if (part === 'name') room.write(facts.name, at, length, 'latin1')
    else if (part === 'instance') room.write(facts.instanceId, at, length, 'latin1')
    else if (part === 'shard') room.write(shardText(facts, of), at, length, 'latin1')
    else room.write(timeOf(part === 'notBefore' ? facts.notBefore : facts.notAfter), at, length, 'latin1')
  }
  return room.subarray(0, bytes.length)
}

/** Where the parts of these bytes stand; null where they are not those of a leaf that others will be like. */
const placesIn = (tbs: Buffer, facts: TbsFacts): readonly Place[] | null => {
  const places: Place[] = []
  const find = (part: Part, sought: Uint8Array | string, from: number, also = 0): number => {
    const bytes = typeof sought === 'string' ? Buffer.from(sought, 'latin1') : sought
    const at = tbs.indexOf(bytes, from)
    if (at < 0) return -1
    places.push([part, at + also, bytes.length - also])
    return at + bytes.length
  }
  let end = find('serial', facts.serial, 0)
  if (end >= 0) end = find('notBefore', timeOf(facts.notBefore), end)
  if (end >= 0) end = find('notAfter', timeOf(facts.notAfter), end)
  const header = end < 0 ? -1 : tbs.indexOf(p256Header, end)
  if (header < 0) return null
  const key = header + p256Header.length
  if (tbs.length < key + pointOctets) return null
  // The subject's common name has a prefix before the name; the SPIFFE ID has it as a path segment.
  const subject = tbs.indexOf(Buffer.from(`-${facts.name}`, 'latin1'), end)
  if (subject >= 0 && subject < header) places.push(['name', subject + 1, facts.name.length])
  places.push(['key', key, pointOctets])
  const own = ownHost(namesIn(tbs, key + pointOctets), facts)
  const afterName = find('name', `/${facts.name}`, key + pointOctets, 1)
  if (afterName >= 0) find('instance', `/i/${facts.instanceId}`, afterName, 3)
  if (own !== null) places.push(['name', own, facts.name.length])
  const shard = shardPlace(tbs, key + pointOctets)
  if (shard !== null) places.push(shard)
  const version = versionPlace(tbs, facts.registrationVersion)
  if (version !== null) places.push(version)
  return places
}

/** The subject's alternative names: its SPIFFE ID, and what hosts stand after it. `at`: of the first host's text. */
interface Names {
  readonly uri: string
  /** null: an address. */
  readonly hosts: readonly (string | null)[]
  readonly at: number
}

const namesIn = (tbs: Buffer, from: number): Names => {
  const start = tbs.indexOf('spiffe://', from, 'latin1')
  // RFC 5280 §4.2.1.6: uniformResourceIdentifier [6], dNSName [2], iPAddress [7]; the octet before a text is its length, or the low one of it.
  let end = start < 0 ? tbs.length : start + tbs[start - 1]!
  const uri = start < 0 ? '' : tbs.toString('latin1', start, end)
  const at = end + 2
  const hosts: (string | null)[] = []
  while (tbs[end] === 0x82 || tbs[end] === 0x87) {
    const next = end + 2 + (tbs[end + 1] ?? 0)
    hosts.push(tbs[end] === 0x87 ? null : tbs.toString('latin1', end + 2, next))
    end = next
  }
  return { uri, hosts, at }
}

/** Where the only host name is the one that the SPIFFE ID says too, NAME.KIND.TRUSTDOMAIN: it changes with the name. */
const ownHost = ({ uri, hosts, at }: Names, { name }: TbsFacts): number | null => {
  const [, , trustDomain, kind] = uri.split('/')
  return hosts.length === 1 && hosts[0] === `${name}.${kind}.${trustDomain}` ? at : null
}

/** Whether all leaves of this registration can have the host names of this one. */
const isUsual = (tbs: Buffer, facts: TbsFacts, registered: readonly string[]): boolean => {
  const names = namesIn(tbs, Math.max(0, tbs.indexOf(p256Header)) + p256Header.length + pointOctets)
  if (names.hosts.length === 0 || ownHost(names, facts) !== null) return true
  const usual = new Set(registered.map(text => text.toLowerCase()))
  return names.hosts.length === usual.size && [...usual].every((text, i) => text === names.hosts[i])
}

/** `…/3-of-16.crl` in the distribution point. */
const shardPlace = (tbs: Buffer, from: number): Place | null => {
  const match = /\/([1-9][0-9]{0,2})-of-([1-9][0-9]{0,2})\./.exec(tbs.toString('latin1', from))
  return match === null ? null : ['shard', from + match.index + 1, match[1]!.length, Number(match[2])]
}

/** The last extension has the version of the scopes as its INTEGER. */
const versionPlace = (tbs: Buffer, version: number): Place | null => {
  for (const length of [1, 2, 3, 4]) {
    const at = tbs.length - length
    if (tbs[at - 1] === length && tbs[at - 2] === 0x02 && tbs.readUIntBE(at, length) === version)
      return ['version', at, length]
  }
  return null
}

/** What is left open is zero, so that a template is the same whoever it was made from. */
const emptied = (tbs: Uint8Array, places: readonly Place[]): Uint8Array => {
  // A copy also of a Buffer, whose own `slice` is a view.
  const bytes = new Uint8Array(tbs)
  for (const [, at, length] of places) bytes.fill(0, at, at + length)
  return bytes
}

interface TemplateRow {
  readonly id: number
  readonly bytes: Uint8Array
  readonly places: string
}

export const createTbsCodec = (db: Pick<Connection, 'get' | 'run' | 'onForget'>, limit = maxTemplates): TbsCodec => {
  // What templates never change; those of a transaction that was rolled back are forgotten with everything else.
  const byId = new Map<number, Template>()
  const byKind = new Map<string, Template[]>()
  let count: number | null = null
  db.onForget(() => {
    byId.clear()
    byKind.clear()
    count = null
  })
  const known = (row: TemplateRow): Template => {
    const template = byId.get(row.id) ?? { id: row.id, bytes: row.bytes, places: JSON.parse(row.places) as Place[] }
    byId.set(row.id, template)
    return template
  }
  const add = (bytes: Uint8Array, places: readonly Place[]): Template | null => {
    const text = JSON.stringify(places)
    const sql = 'SELECT id, bytes, places FROM tbs_template WHERE bytes = ? AND places = ?'
    const found = db.get<TemplateRow>(sql, bytes, text)
    if (found !== undefined) return known(found)
    count ??= db.get<{ n: number }>('SELECT count(*) AS n FROM tbs_template')!.n
    if (count >= limit) return null
    count++
    const { row: id } = db.run('INSERT INTO tbs_template(bytes, places) VALUES (?, ?)', bytes, text)
    return known({ id, bytes, places: text })
  }
  return {
    store: (tbs, facts, kind, registered) => {
      const bytes = Buffer.from(tbs.buffer, tbs.byteOffset, tbs.byteLength)
      if (registered !== undefined && !isUsual(bytes, facts, registered)) return { template: null, bytes: tbs }
      const tried = byKind.get(`${kind} ${tbs.length}`) ?? []
      const keyOf = ({ places }: Template): Uint8Array => {
        const [, at, length] = places.find(([part]) => part === 'key') as Place
        return new Uint8Array(tbs.subarray(at, at + length))
      }
      for (const template of tried) {
        const key = keyOf(template)
        if (fits(template, facts) && fill(template, facts, key).equals(bytes))
          return { template: template.id, bytes: key }
      }
      const places = tbs.length > room.length ? null : placesIn(bytes, facts)
      const template = places === null ? null : add(emptied(tbs, places), places)
      if (template === null) return { template: null, bytes: tbs }
      const key = keyOf(template)
      if (!fits(template, facts) || !fill(template, facts, key).equals(bytes)) return { template: null, bytes: tbs }
      byKind.set(`${kind} ${tbs.length}`, [template, ...tried].slice(0, maxTried))
      return { template: template.id, bytes: key }
    },
    whole: ({ template: id, bytes }, facts) => {
      if (id === null) return bytes
      const row = byId.has(id) ? undefined : db.get<TemplateRow>('SELECT * FROM tbs_template WHERE id = ?', id)
      const template = byId.get(id) ?? (row === undefined ? undefined : known(row))
      if (template === undefined) throw new RangeError(`no template of certificates has number ${id}`)
      return new Uint8Array(fill(template, facts, bytes))
    },
  }
}

/** Whether every part is as long as its place: writing is cut there, and comparing shows it; what is shorter would leave zeros. */
const fits = ({ places }: Template, facts: TbsFacts): boolean =>
  places.every(([part, , length, of]) => {
    if (part === 'name') return facts.name.length === length
    if (part === 'instance') return facts.instanceId.length === length
    if (part === 'serial') return facts.serial.length === length
    if (part === 'shard') return shardText(facts, of).length === length
    return true
  })
