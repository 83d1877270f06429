// A call as the application of the core sees it: what hot routes read of a request and write to a response, and nothing else of node:http.
// A whole request and response cost as much as the decision that they carry.
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { markPossession } from '../http/call.ts'
import type { Possession } from './protocol.ts'

export interface CalledFor {
  readonly path: string
  readonly body: Uint8Array
  readonly possession: Possession
  /** Stands for the caller's connection (http/presented-certificate.ts). */
  readonly connection: object
}

export interface Reply {
  readonly status: number
  /** Names and values in turns. */
  readonly headers: readonly string[]
  readonly body: Uint8Array
}

class CalledRequest {
  readonly method = 'POST'
  readonly baseUrl = ''
  /** Whole before it comes here. */
  readonly complete = true
  readonly url: string
  readonly socket: object
  readonly headers: Readonly<Record<string, string>>
  readonly #body: Buffer

  constructor({ path, body, connection }: CalledFor) {
    this.url = path
    this.socket = connection
    this.headers = { 'content-type': 'application/json', 'content-length': String(body.length) }
    this.#body = Buffer.from(body.buffer, body.byteOffset, body.length)
  }

  read(): Buffer {
    return this.#body
  }
}

class CalledResponse {
  statusCode = 200
  locals: object = {}
  headersSent = false
  destroyed = false
  readonly req: CalledRequest
  readonly #headers: string[] = []
  readonly #onFinish: (() => void)[] = []
  readonly #reply: (reply: Reply) => void

  constructor(request: CalledRequest, reply: (reply: Reply) => void) {
    this.req = request
    this.#reply = reply
  }

  setHeader(name: string, value: string | number): void {
    const at = this.#headers.findIndex((each, i) => i % 2 === 0 && each.toLowerCase() === name.toLowerCase())
    if (at === -1) this.#headers.push(name, String(value))
    else this.#headers[at + 1] = String(value)
  }

  on(event: string, listener: () => void): void {
    if (event === 'finish') this.#onFinish.push(listener)
  }

  end(text = ''): void {
    if (this.headersSent) return
    this.headersSent = true
    this.#reply({ status: this.statusCode, headers: this.#headers, body: Buffer.from(text) })
    for (const listener of this.#onFinish) listener.call(this)
  }

  /** The caller hears nothing more, and asks again. */
  destroy(): void {
    this.destroyed = true
  }
}

/** @param handler takes every path that fronts call; `reply` is called once, unless the handler gives up */
export const exchange = (handler: RequestListener, call: CalledFor, reply: (reply: Reply) => void): void => {
  const request = new CalledRequest(call)
  const response = new CalledResponse(request, reply)
  if (call.possession === 'checked') markPossession(response)
  handler(request as unknown as IncomingMessage, response as unknown as ServerResponse)
}
