// One header of a request, taken only where nobody could take another one for it: once, under exactly its name. Servers behind a proxy
// read `_` and `.` in names as `-` (CGI, WSGI, Rack), so such a spelling is a second copy.
import { RequestRefused } from './errors.ts'

/** Names and values in turn, as they came (`IncomingMessage.rawHeaders`): merged ones would hide a duplicate. */
export type RawHeaders = readonly string[]

const spelled = (name: string): string => name.toLowerCase().replaceAll(/[_.]/g, '-')

/** Whether a header is this one, or would be taken for it. @param name lower case, with `-` */
export const isSpelling = (header: string, name: string): boolean => spelled(header) === name

/** By these frameworks and middleware (Rack, Express, Symfony, Django, IIS) take another call for the one that was made. */
const overriding = ['x-http-method-override', 'x-http-method', 'x-method-override', 'x-original-url', 'x-rewrite-url']

/** @param readHere names, lower case, that the call itself is read from @throws RequestRefused `call_overridden` */
export const checkNoOverride = (headers: RawHeaders, readHere: readonly string[]): void => {
  for (let at = 0; at < headers.length; at += 2) {
    const name = spelled(headers[at] as string)
    if (overriding.includes(name) && !readHere.includes(name))
      throw new RequestRefused(
        'call_overridden',
        `the request came with ${name}: it would be another call than it is`,
        {
          hint: 'make the call by its own method and path',
        },
      )
  }
}

/**
 * @param name in any case
 * @returns null when there is none; an empty one is none
 * @throws RequestRefused `header_ambiguous`
 */
export const oneHeader = (headers: RawHeaders, name: string): string | null => {
  const wanted = name.toLowerCase()
  let found: string | null = null
  for (let at = 0; at < headers.length; at += 2) {
    const header = (headers[at] as string).toLowerCase()
    if (spelled(header) !== wanted) continue
    if (header !== wanted)
      throw new RequestRefused('header_ambiguous', `expected ${name}, got it as ${header.slice(0, 80)}`)
    if (found !== null) throw new RequestRefused('header_ambiguous', `expected ${name} once, got it twice`)
    found = headers[at + 1] as string
  }
  return found === '' ? null : found
}
