// Who enrols by EST: a join token as the password of HTTP Basic (RFC 7030 §3.2.3, RFC 7617). The user name is that of the registration, or
// empty: the token says whose it is already, and a name that contradicts it is a mistake that somebody should hear of.
import { hash } from 'node:crypto'
import type { Request, Response } from 'express'
import { fromBase64, fromUtf8 } from '../base/bytes.ts'
import { CaError } from '../ca/errors.ts'
import type { RegistrationsPort, TokensPort } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import { callOf, setCall } from './call.ts'
import { HttpError } from './errors.ts'

export interface CredentialsDeps {
  readonly registrations: Pick<RegistrationsPort, 'byId'>
  readonly tokens: Pick<TokensPort, 'byHash'>
}

interface Credentials {
  readonly user: string
  readonly token: string
}

const missing = (message: string): HttpError =>
  new HttpError('basic_credentials_missing', message, {
    hint: 'agentca token create --agent NAME, and the token as the password of HTTP Basic; to renew, simplereenroll under the present certificate',
  })

const decoded = (base64: string): string | null => {
  const bytes = fromBase64(base64)
  try {
    return bytes === null ? null : fromUtf8(bytes)
  } catch {
    return null
  }
}

/** @returns null where there is no Authorization. @throws HttpError `basic_credentials_missing` for one of another form */
const credentialsOf = (request: Request): Credentials | null => {
  const header = request.headers.authorization
  if (header === undefined) return null
  const [, base64] = /^basic +(\S+)$/i.exec(header) ?? []
  if (base64 === undefined) throw missing('expected Authorization: Basic, got another scheme')
  const text = decoded(base64)
  const colon = text?.indexOf(':') ?? -1
  if (text === null || colon < 0) throw missing('the credentials of HTTP Basic cannot be read')
  return { user: text.slice(0, colon), token: text.slice(colon + 1) }
}

/**
 * The token that the request shows, and whose it is; whether it may still be used is issuance's decision.
 * @returns null where none is shown
 * @throws HttpError `basic_credentials_missing`, `basic_credentials_mismatched`; CaError `token_unknown`
 */
export const shownToken = (
  deps: CredentialsDeps,
  request: Request,
  response: Response,
): { readonly token: string; readonly registration: Registration } | null => {
  const credentials = credentialsOf(request)
  if (credentials === null) return null
  const { user, token } = credentials
  const known = deps.tokens.byHash(hash('sha256', token, 'hex'))
  const registration = known === null ? null : deps.registrations.byId(known.registrationId)
  if (known === null || registration === null)
    throw new CaError('token_unknown', 'this join token is not known here', {
      hint: 'agentca token create --agent NAME, and the token as the password of HTTP Basic',
    })
  setCall(response, {
    ...callOf(response),
    evidence: { who: `token:${known.id}`, registrationId: registration.id },
  })
  if (user !== '' && user !== registration.name)
    throw new HttpError(
      'basic_credentials_mismatched',
      'this join token belongs to another name than the user name says',
      {
        hint: 'the user name is the name of the agent or service that the token was made for, or empty',
      },
    )
  return { token, registration }
}

/** @throws as shownToken, and HttpError `basic_credentials_missing` where none is shown */
export const tokenOf = (deps: CredentialsDeps, request: Request, response: Response): string => {
  const shown = shownToken(deps, request, response)
  if (shown === null) throw missing('enrolment needs a join token as the password of HTTP Basic')
  return shown.token
}
