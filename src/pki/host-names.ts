// Names of hosts as certificates carry them: DNS names in their preferred form, and IP addresses between text and octets. Whose they
// are is decided elsewhere.

/** One label: letters, digits, dashes inside (RFC 1034 §3.5, RFC 1123 §2.1), lower case. */
const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * Preferred name syntax (RFC 5280 §4.2.1.6), lower case, without the root's dot; `*` only as the whole leftmost label (RFC 9525 §6.3).
 * A last label of digits would be read as an address (RFC 1123 §2.1), so it makes no name.
 */
export const isDnsName = (name: string): boolean => {
  if (name.length > 253) return false
  const labels = name.split('.')
  if (labels[0] === '*' && labels.length > 2) labels.shift()
  return labels.every(each => label.test(each)) && !/^[0-9]+$/.test(labels.at(-1)!)
}

const parseIpv4 = (text: string): number[] | null => {
  const parts = text.split('.')
  // No leading zeros: some read them as octal.
  if (parts.length !== 4 || !parts.every(part => /^(?:0|[1-9][0-9]{0,2})$/.test(part) && Number(part) < 256))
    return null
  return parts.map(Number)
}

/** Groups of 16 bits on one side of `::`, the last perhaps an IPv4 address (RFC 4291 §2.2). */
const parseGroups = (text: string, mayEndInIpv4: boolean): number[] | null => {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    const v4 = mayEndInIpv4 && i === parts.length - 1 && part.includes('.') ? parseIpv4(part) : null
    if (v4 !== null) groups.push(v4[0]! * 256 + v4[1]!, v4[2]! * 256 + v4[3]!)
    else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16))
    else return null
  }
  return groups
}

const parseIpv6 = (text: string): number[] | null => {
  const sides = text.split('::')
  if (sides.length > 2) return null
  const head = parseGroups(sides[0]!, sides.length === 1)
  const tail = sides[1] === undefined ? [] : parseGroups(sides[1], true)
  if (head === null || tail === null) return null
  const missing = 8 - head.length - tail.length
  if (sides.length === 1 ? missing !== 0 : missing < 1) return null
  return [...head, ...new Array<number>(missing).fill(0), ...tail].flatMap(group => [group >> 8, group & 0xff])
}

/** 4 or 16 octets of an address literal, without brackets, zone or prefix; null for anything else. */
export const parseIpAddress = (text: string): Uint8Array | null => {
  const octets = text.includes(':') ? parseIpv6(text) : parseIpv4(text)
  return octets === null ? null : Uint8Array.from(octets)
}

/** The longest run of at least two zero groups, the first of several: what `::` stands for (RFC 5952 §4.2). */
const longestZeroRun = (groups: readonly number[]): { readonly at: number; readonly length: number } => {
  let longest = { at: 0, length: 1 }
  for (let at = 0; at < groups.length; at++) {
    let length = 0
    while (groups[at + length] === 0) length++
    if (length > longest.length) longest = { at, length }
  }
  return longest
}

/** Text of 4 or 16 octets, one text for one address: IPv6 in the form of RFC 5952 §4. */
export const ipAddressText = (octets: Uint8Array): string => {
  if (octets.length === 4) return octets.join('.')
  const groups = Array.from({ length: octets.length / 2 }, (_, i) => octets[2 * i]! * 256 + octets[2 * i + 1]!)
  const text = (some: readonly number[]): string => some.map(group => group.toString(16)).join(':')
  const { at, length } = longestZeroRun(groups)
  return length < 2 ? text(groups) : `${text(groups.slice(0, at))}::${text(groups.slice(at + length))}`
}
