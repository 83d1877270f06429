// `POST /v1/decisions`: what a service's verifiers decided, in small batches. The service is the one whose certificate it is: nobody
// reports on calls to somebody else. What becomes of it is monitor's; the answer never waits for that.
import type { IRouter, RequestHandler } from 'express'
import type { Monitor } from '../monitor/monitor.ts'
import { decisionsBody, parseWith } from '../schema/api-bodies.ts'
import { methodNotAllowed } from './agent-api.ts'
import { HttpError } from './errors.ts'
import { peerOf } from './front.ts'

export const decisionPaths = { decisions: '/v1/decisions' } as const

const report =
  (monitor: Pick<Monitor, 'report'>): RequestHandler =>
  (request, response) => {
    const { registration, instance } = peerOf(response)
    if (registration.kind !== 'service')
      throw new HttpError('service_only', 'only services report decisions, each those on calls to itself')
    const sender = { service: registration.name, instance: instance.id }
    monitor.report(sender, parseWith(decisionsBody, request.body, 'body'))
    response.statusCode = 204
    response.end()
  }

export const mountDecisions = (router: IRouter, monitor: Pick<Monitor, 'report'>, jsonBody: RequestHandler): void => {
  router.post(decisionPaths.decisions, jsonBody, report(monitor))
  router.all(decisionPaths.decisions, methodNotAllowed('POST'))
}
