// `GET /v1/feed` and `POST /v1/feed/ack`: from a verified peer to a subscription, and from a body to an acknowledgement. What is sent,
// and when a stream ends, is decided in feed.
import type { IRouter, RequestHandler, Response } from 'express'
import type { Hub } from '../feed/hub.ts'
import type { SubscriberIdentity } from '../feed/subscribers.ts'
import { acknowledgeBody, feedQuery, parseWith } from '../schema/api-bodies.ts'
import { parsePosition } from '../verify/feed-event.ts'
import { methodNotAllowed } from './agent-api.ts'
import type { VerifiedCaller } from './call.ts'
import { HttpError } from './errors.ts'
import { peerOf } from './front.ts'

export const feedPaths = { feed: '/v1/feed', acknowledge: '/v1/feed/ack' } as const

type Named = Pick<SubscriberIdentity, 'kind' | 'name' | 'replica'>

/** An agent hears of its own instance only: it is one subscriber, whatever it calls itself. */
const subscriberOf = ({ registration: { kind, name }, instance }: VerifiedCaller, replica?: string): Named => ({
  kind,
  name,
  replica: kind === 'agent' ? instance.id : (replica ?? instance.id),
})

/** Sent with the first bytes: until then a refusal can take its place. */
const prepareStream = (response: Response): void => {
  response.statusCode = 200
  response.setHeader('Content-Type', 'text/event-stream')
  response.setHeader('Cache-Control', 'no-store')
  // nginx would collect events until a buffer is full.
  response.setHeader('X-Accel-Buffering', 'no')
  // The end of the stream is the end of its connection: frames go out as they are, the same bytes to everybody.
  response.useChunkedEncodingByDefault = false
  response.setHeader('Connection', 'close')
}

const subscribe =
  (hub: Pick<Hub, 'subscribe'>): RequestHandler =>
  (request, response, next) => {
    // A route for GET gets HEAD too, and this one has no end.
    if (request.method === 'HEAD') return methodNotAllowed('GET')(request, response, next)
    const caller = peerOf(response)
    const query = parseWith(feedQuery, request.query, 'query')
    const { record, instance } = caller
    const named = subscriberOf(caller, query.subscriber)
    prepareStream(response)
    hub.subscribe(
      {
        peer: {
          kind: named.kind,
          name: named.name,
          instanceId: instance.id,
          serial: record.serial,
          notAfter: record.notAfter,
        },
        identity: { ...named, maxStalenessSeconds: query.maxStaleness },
        since: request.get('last-event-id') ?? query.since ?? null,
      },
      response,
    )
  }

const acknowledge =
  (hub: Pick<Hub, 'acknowledge' | 'leave'>): RequestHandler =>
  (request, response) => {
    const caller = peerOf(response)
    if (caller.registration.kind !== 'service')
      throw new HttpError('service_only', 'only services refuse callers by what the feed says')
    const { id, subscriber, leaving } = parseWith(acknowledgeBody, request.body, 'body')
    const position = parsePosition(id)
    if (position === null) throw new HttpError('body_malformed', 'expected the id of an event: <epoch>.<n>')
    const named = subscriberOf(caller, subscriber)
    if (leaving) hub.leave(named, position)
    else hub.acknowledge(named, position)
    response.statusCode = 204
    response.end()
  }

export const mountFeed = (
  router: IRouter,
  hub: Pick<Hub, 'subscribe' | 'acknowledge' | 'leave'>,
  jsonBody: RequestHandler,
): void => {
  router.get(feedPaths.feed, subscribe(hub))
  router.all(feedPaths.feed, methodNotAllowed('GET'))
  router.post(feedPaths.acknowledge, jsonBody, acknowledge(hub))
  router.all(feedPaths.acknowledge, methodNotAllowed('POST'))
}
