// A DNS server (RFC 1035) over UDP on loopback, as much of it as a resolver's questions need: answers come from a function, so that they
// can change from one question to the next.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { parseIpAddress } from '../../../src/pki/host-names.ts'

const types = { A: 1, CNAME: 5, TXT: 16, AAAA: 28 } as const
export type DnsType = keyof typeof types

export interface DnsRecord {
  readonly name?: string
  readonly type: DnsType
  /** An address, a name, or a text, which is cut into strings of 255 octets. */
  readonly value: string
}

/** Records; or a failure; or no answer at all. */
export type DnsAnswer = readonly DnsRecord[] | 'NXDOMAIN' | 'SERVFAIL' | 'silence'

export interface DnsServer extends AsyncDisposable {
  /** As `acme.validation.resolvers` wants it. */
  readonly address: string
  /** `A agent.example`, in the order they came. */
  readonly questions: readonly string[]
}

const encodeName = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map(label => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0]),
  ])

const encodeData = ({ type, value }: DnsRecord): Buffer => {
  if (type === 'CNAME') return encodeName(value)
  if (type !== 'TXT') return Buffer.from(parseIpAddress(value) as Uint8Array)
  const strings = value.match(/.{1,255}/gs) ?? ['']
  return Buffer.concat(strings.flatMap(each => [Buffer.from([each.length]), Buffer.from(each)]))
}

const encodeRecord = (record: DnsRecord, asked: string): Buffer => {
  const data = encodeData(record)
  const fixed = Buffer.alloc(10)
  fixed.writeUInt16BE(types[record.type], 0)
  fixed.writeUInt16BE(1, 2)
  fixed.writeUInt16BE(data.length, 8)
  return Buffer.concat([encodeName(record.name ?? asked), fixed, data])
}

const readQuestion = (message: Buffer): { name: string; type: string; question: Buffer } => {
  const labels: string[] = []
  let at = 12
  while (message[at] !== 0) {
    const length = message[at] as number
    labels.push(message.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  const code = message.readUInt16BE(at + 1)
  const type = Object.entries(types).find(([, value]) => value === code)?.[0] ?? String(code)
  return { name: labels.join('.').toLowerCase(), type, question: message.subarray(12, at + 5) }
}

export const startDnsServer = async (answer: (name: string, type: string) => DnsAnswer): Promise<DnsServer> => {
  const socket = createSocket('udp4')
  const questions: string[] = []
  socket.on('message', (message, from) => {
    const { name, type, question } = readQuestion(message)
    questions.push(`${type} ${name}`)
    const given = answer(name, type)
    if (given === 'silence') return
    const records = typeof given === 'string' ? [] : given
    const header = Buffer.alloc(12)
    message.copy(header, 0, 0, 2)
    header.writeUInt16BE(0x8180 | (given === 'NXDOMAIN' ? 3 : given === 'SERVFAIL' ? 2 : 0), 2)
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(records.length, 6)
    socket.send(
      Buffer.concat([header, question, ...records.map(each => encodeRecord(each, name))]),
      from.port,
      from.address,
    )
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${(socket.address() as AddressInfo).port}`,
    questions,
    [Symbol.asyncDispose]: async () => {
      socket.close()
      await once(socket, 'close')
    },
  }
}

/** Names with their addresses; everything else does not exist. */
export const hosts =
  (entries: Readonly<Record<string, readonly string[]>>) =>
  (name: string, type: string): DnsAnswer => {
    const addresses = entries[name]
    if (addresses === undefined) return 'NXDOMAIN'
    if (type !== 'A' && type !== 'AAAA') return []
    return addresses.filter(each => each.includes(':') === (type === 'AAAA')).map(value => ({ type, value }))
  }
