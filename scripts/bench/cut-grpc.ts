// The one method that the backends of `cut` have, for both ends: a stream that says something once and stays open.
import type { MethodDefinition } from '@grpc/grpc-js'

export const watchMethod: MethodDefinition<string, string> = {
  path: '/bench.Orders/Watch',
  requestStream: false,
  responseStream: true,
  requestSerialize: text => Buffer.from(text),
  requestDeserialize: bytes => bytes.toString(),
  responseSerialize: text => Buffer.from(text),
  responseDeserialize: bytes => bytes.toString(),
}
