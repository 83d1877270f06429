// One element of a DER encoding changed, and every length around it put right. Lenient where the reader under test is strict: what it cannot
// take apart it leaves to the mutations of bytes.
import { below, oneOf, type Random } from './chance.ts'

interface Node {
  tag: number
  /** Of a constructed element, also of an OCTET STRING or BIT STRING that holds one. */
  children: Node[] | null
  content: Uint8Array
  /** What stands before the children inside of a string: the count of unused bits. */
  prefix: Uint8Array
}

const maxDepth = 30
const maxNodes = 2000

interface Head {
  readonly contentStart: number
  readonly end: number
}

const headAt = (bytes: Uint8Array, at: number): Head | null => {
  const first = bytes[at + 1]
  if (first === undefined) return null
  if (first < 0x80) return { contentStart: at + 2, end: at + 2 + first }
  const count = first & 0x7f
  if (count === 0 || count > 3) return null
  let length = 0
  for (let i = 0; i < count; i++) length = length * 256 + (bytes[at + 2 + i] ?? 0)
  return { contentStart: at + 2 + count, end: at + 2 + count + length }
}

const nothing = new Uint8Array(0)

/** Strings that hold an encoding: extensions in an OCTET STRING, keys and signatures in a BIT STRING. */
const prefixOf = (tag: number): number | null => ((tag & 0x20) !== 0 || tag === 0x04 ? 0 : tag === 0x03 ? 1 : null)

const nodesOf = (bytes: Uint8Array, depth: number, left: { nodes: number }): Node[] | null => {
  const nodes: Node[] = []
  for (let at = 0; at < bytes.length; ) {
    const head = headAt(bytes, at)
    if (head === null || head.end > bytes.length || depth > maxDepth || --left.nodes < 0) return null
    const tag = bytes[at] as number
    const content = bytes.subarray(head.contentStart, head.end)
    const skip = prefixOf(tag)
    const inner = skip === null || content.length <= skip ? null : nodesOf(content.subarray(skip), depth + 1, left)
    nodes.push({ tag, content, children: inner, prefix: skip === null ? nothing : content.subarray(0, skip) })
    at = head.end
  }
  return nodes
}

const encode = ({ tag, children, content, prefix }: Node): Buffer => {
  const inner = children === null ? content : Buffer.concat([prefix, ...children.map(encode)])
  const { length } = inner
  const octets = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...octets), inner])
}

/** Each with the list that it stands in. */
const placesOf = (nodes: Node[]): { readonly list: Node[]; readonly at: number }[] =>
  nodes.flatMap((node, at) => [{ list: nodes, at }, ...(node.children === null ? [] : placesOf(node.children))])

const tags = [
  0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0c, 0x13, 0x16, 0x17, 0x18, 0x30, 0x31, 0x80, 0x81, 0x82, 0xa0, 0xa1,
  0xa3,
]
const contents = [
  '',
  '00',
  'ff',
  '0000',
  '0101ff',
  '8000000000',
  '7fffffffffffffffff',
  '2a864886f70d010101',
  '323630313031303030303030',
  '80',
]

type Change = (list: Node[], at: number, random: Random, others: readonly Node[]) => void

const changes: readonly Change[] = [
  (list, at) => {
    list.splice(at, 1)
  },
  (list, at) => {
    list.splice(at, 0, list[at] as Node)
  },
  (list, at, random) => {
    list.splice(below(random, list.length), 0, ...list.splice(at, 1))
  },
  (list, at, random) => {
    list[at] = { ...(list[at] as Node), tag: oneOf(random, tags) }
  },
  (list, at, random) => {
    const content = new Uint8Array(Buffer.from(oneOf(random, contents), 'hex'))
    list[at] = { ...(list[at] as Node), children: null, content }
  },
  (list, at, random) => {
    const node = list[at] as Node
    const content = Buffer.from(node.content)
    if (content.length > 0) content[below(random, content.length)] = below(random, 256)
    list[at] = { ...node, children: null, content }
  },
  // Wrapped in one more level.
  (list, at, random) => {
    list[at] = {
      tag: oneOf(random, [0x30, 0x31, 0xa0]),
      children: [list[at] as Node],
      content: nothing,
      prefix: nothing,
    }
  },
  (list, at, random, others) => {
    if (others.length > 0) list[at] = oneOf(random, others)
  },
  (list, at, random, others) => {
    if (others.length > 0) list.splice(at, 0, oneOf(random, others))
  },
]

const everyNode = (nodes: Node[]): readonly Node[] => placesOf(nodes).map(({ list, at }) => list[at] as Node)

/** @returns null for what is no encoding */
export const mutateDer = (bytes: Uint8Array, other: Uint8Array, random: Random): Uint8Array | null => {
  const nodes = nodesOf(bytes, 0, { nodes: maxNodes })
  if (nodes === null || nodes.length === 0) return null
  const place = oneOf(random, placesOf(nodes))
  const others = random() < 0.3 ? everyNode(nodesOf(other, 0, { nodes: maxNodes }) ?? []) : []
  oneOf(random, changes)(place.list, place.at, random, others)
  return Buffer.concat(nodes.map(encode))
}
