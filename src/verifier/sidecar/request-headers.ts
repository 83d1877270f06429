// One header of a request, taken only where nobody could take another one for it: once, under exactly its name. Servers behind a proxy
// read `_` and `.` in names as `-` (CGI, WSGI, Rack), so such a spelling is a second copy.
import { RequestRefused } from './errors.ts'

/** Names and values in turn, as they came (`IncomingMessage.rawHeaders`): merged ones would hide a duplicate. */
export type RawHeaders = readonly string[]

const spelled = (name: string): string => name.toLowerCase().replaceAll(/[_.]/g, '-')

/** Whether a header is this one, or would be taken for it. @param name lower case, with `-` */
export const isSpelling = (header: string, name: string): boolean => spelled(header) === name

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
