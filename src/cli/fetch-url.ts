// Bytes behind a URL that certificates name: bounded in time and size, redirects not followed, because a status URL has no reason to
// move and a redirect could lead anywhere.
import { messageOf } from '../base/errors.ts'
import { CliError } from './errors.ts'

const maxBytes = 64 * 1024 * 1024
const timeoutMs = 10_000

export interface Fetched {
  readonly status: number
  readonly contentType: string
  readonly bytes: Uint8Array
}

const readBody = async (response: Response): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length
    if (length > maxBytes) throw new Error(`more than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return new Uint8Array(Buffer.concat(chunks))
}

const causeOf = (error: unknown): string => {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && cause.message !== '' ? cause.message : messageOf(error)
}

/** @param post body of a POST and its content type; without it a GET @throws CliError server_unreachable, usage */
export const fetchUrl = async (
  url: string,
  post?: { readonly body: Uint8Array; readonly contentType: string },
): Promise<Fetched> => {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw new CliError('usage', `expected an http or https URL, got ${url}`)
  try {
    const response = await fetch(url, {
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
      ...(post === undefined
        ? {}
        : {
            method: 'POST',
            body: post.body as Uint8Array<ArrayBuffer>,
            headers: { 'content-type': post.contentType },
          }),
    })
    const bytes = await readBody(response)
    return { status: response.status, contentType: response.headers.get('content-type') ?? '', bytes }
  } catch (error) {
    throw new CliError('server_unreachable', `cannot fetch ${url}: ${causeOf(error)}`, { cause: error })
  }
}

/** @throws CliError server_unreachable for any status but 200 */
export const fetchOk = async (url: string, post?: Parameters<typeof fetchUrl>[1]): Promise<Uint8Array> => {
  const { status, bytes } = await fetchUrl(url, post)
  if (status !== 200) throw new CliError('server_unreachable', `${url} answered with status ${status}`)
  return bytes
}
