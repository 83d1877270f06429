// The few routes that a fleet asks for all day, without the router: the same middlewares in the same order, called one after the other.
// Express looks through its routes, exchanges the prototypes of request and response and wraps every step, which costs as much as the
// rest of HTTP; what it offers beyond that is not used by these routes. Everything else goes to it.
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express'

export interface HotRoutes {
  /** Each must end the request by an error or leave it to the next one. */
  readonly before: readonly RequestHandler[]
  /** By exact path, without a query. */
  readonly posts: ReadonlyMap<string, RequestHandler>
  readonly answerError: ErrorRequestHandler
  readonly others: RequestListener
}

/** What Express gives its handlers, as far as those here read it. */
interface Prepared {
  locals: object
  path: string
  originalUrl: string
}

const goOn = (): void => {}

export const createHotRoutes = ({ before, posts, answerError, others }: HotRoutes): RequestListener => {
  const serve = async (request: Request, response: Response, handler: RequestHandler): Promise<void> => {
    try {
      for (const step of before) {
        const done = step(request, response, goOn)
        // Most steps are done when they return; a turn of the microtask queue for each would cost more than they do.
        if (done !== undefined) await done
      }
      await handler(request, response, goOn)
    } catch (error) {
      await answerError(error, request, response, goOn)
    }
  }

  return (request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? ''
    const handler = request.method === 'POST' ? posts.get(path) : undefined
    if (handler === undefined) return others(request, response)
    const prepared = request as IncomingMessage & Prepared
    prepared.path = path
    prepared.originalUrl = path
    ;(response as ServerResponse & Prepared).locals = {}
    // An answer to an error that fails itself leaves nothing to say.
    serve(request as Request, response as Response, handler).catch(() => response.destroy())
  }
}
