// Serial numbers are positive, unpredictable enough and not longer than readers must cope with.
import type { Lint } from './lint.ts'

/** 64 bits of randomness do not fit into fewer. */
const minOctets = 8
const maxOctets = 20

export const serialNumber: Lint = {
  name: 'serial-number',
  citation: 'RFC 5280 §4.1.2.2; CABF BR §7.1',
  check: ({ serial }) => {
    if (serial[0]! >= 0x80) return 'the serial is negative'
    if (serial.length < minOctets || serial.length > maxOctets)
      return `expected ${minOctets} to ${maxOctets} octets, got ${serial.length}`
    return null
  },
}
