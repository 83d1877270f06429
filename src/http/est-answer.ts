// What EST answers look like on the wire (RFC 7030 §4, RFC 8951 §3): base64 whatever the headers say, and errors that people can read.
import type { Request, Response } from 'express'
import { toBase64 } from '../base/bytes.ts'
import { sendProblem } from './answer.ts'
import type { Problem } from './problem.ts'

const prefix = '/.well-known/est/'

export const isEstPath = (path: string): boolean => path.startsWith(prefix)

export const estPaths = {
  cacerts: `${prefix}cacerts`,
  csrattrs: `${prefix}csrattrs`,
  simpleenroll: `${prefix}simpleenroll`,
  simplereenroll: `${prefix}simplereenroll`,
} as const

/** Content types: of a set of CAs, of what was issued, of what a request should have. */
export const certificatesType = 'application/pkcs7-mime'
export const issuedType = 'application/pkcs7-mime; smime-type=certs-only'
export const attributesType = 'application/csrattrs'

/** Lines of 64, as older clients expect; any other white space is their matter (RFC 8951 §3). */
const inLines = (base64: string): string => `${base64.match(/.{1,64}/g)?.join('\n') ?? ''}\n`

export const sendBase64 = (response: Response, type: string, der: Uint8Array): void => {
  response.statusCode = 200
  response.setHeader('Content-Type', type)
  // Deprecated by RFC 8951, and demanded by clients from before it.
  response.setHeader('Content-Transfer-Encoding', 'base64')
  response.setHeader('Cache-Control', 'no-store')
  response.end(inLines(toBase64(der)))
}

export const sendText = (response: Response, status: number, text: string): void => {
  response.statusCode = status
  response.setHeader('Content-Type', 'text/plain; charset=utf-8')
  response.setHeader('Cache-Control', 'no-store')
  response.end(text)
}

/** Whoever asks for a problem document gets one. */
const wantsProblem = (request: Request): boolean => /\bjson\b/i.test(request.headers.accept ?? '')

/** RFC 7030 §4.2.3: text for people; and §3.2.3: how to authenticate, where that was what was missing. */
export const sendEstProblem = (request: Request, response: Response, problem: Problem): void => {
  const { status, title, detail, hint, code, requestId } = problem
  // Re-enrolment is by certificate alone, for which HTTP has no challenge.
  if (status === 401 && request.path !== estPaths.simplereenroll)
    response.setHeader('WWW-Authenticate', 'Basic realm="agentca join token", charset="UTF-8"')
  if (wantsProblem(request)) {
    sendProblem(response, status, problem)
    return
  }
  const cure = hint === undefined ? '' : `${hint}\n`
  sendText(response, status, `${title}: ${detail}\n${cure}code ${code}, request ${requestId}\n`)
}
