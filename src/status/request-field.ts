// One header field of a request as it came. The object of all fields costs as much to make as the answer from memory does, so it is not.
import type { IncomingMessage } from 'node:http'

/**
 * @param name in lower case
 * @returns the first of its lines; undefined: there is none
 */
export const fieldOf = ({ rawHeaders }: IncomingMessage, name: string): string | undefined => {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const found = rawHeaders[at]!
    if (found.length === name.length && (found === name || found.toLowerCase() === name)) return rawHeaders[at + 1]
  }
  return undefined
}
