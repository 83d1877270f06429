// Where the listeners may be, known before any of them is opened and before anything is signed.
import { type Config, isLoopback } from '../schema/config.ts'
import { ServerError } from './errors.ts'

/** A CA whose certificates name loopback must not be reached from elsewhere: nobody there could check a revocation. */
export const checkListeners = (config: Config, urls: { readonly api: string; readonly status: string }): void => {
  for (const [name, address, url] of [
    ['listen.api', config.listen.api, urls.api],
    ['listen.status', config.listen.status, urls.status],
  ] as const)
    if (isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, '')) && !isLoopback(address.host))
      throw new ServerError('listener_not_allowed', `${name} is ${address.host}, but certificates name ${url}`, {
        hint: 'set publicUrl.api and publicUrl.status before agentca init, or listen on loopback',
      })
  if (!isLoopback(config.listen.ops.host))
    throw new ServerError('listener_not_allowed', `listen.ops is ${config.listen.ops.host}, expected loopback`, {
      hint: 'listen.ops: 127.0.0.1:9464',
    })
}
