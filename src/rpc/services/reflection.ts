/**
 * Server reflection of gRPC (grpc.reflection.v1 and v1alpha, which are alike): which services there are and
 * what their messages look like. A stream of questions, each with its answer.
 */
import type { NodeFace, RequestContext } from '../../node.js';
import { type DescribedFile, describeFiles, SERVICES } from '../api/descriptors.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { GrpcCode } from '../error-mapping.js';

type Question = Decoded<'ServerReflectionRequest'>;
type Answer = Encodable<'ServerReflectionResponse'>;

/** Made when somebody asks for the first time. */
let known: readonly DescribedFile[] | null = null;

export function openReflection(
  _node: NodeFace,
  _context: RequestContext,
  sink: ResponseSink<Answer>,
): StreamSession<Question> {
  let isFull = false;
  return {
    // The answers are much larger than the questions.
    get isFull() {
      return isFull;
    },
    handle(question) {
      isFull = !sink.send({
        validHost: question.host,
        originalRequest: question,
        ...answer(question),
      });
    },
    requestsEnded: () => sink.end(null),
    drained() {
      isFull = false;
      sink.resume();
    },
    close() {},
  };
}

function answer({ fileByFilename, fileContainingSymbol, listServices }: Question): Answer {
  if (listServices !== null) {
    return { listServicesResponse: { service: SERVICES.map((name) => ({ name })) } };
  }
  known ??= describeFiles();
  const wanted =
    fileByFilename !== null
      ? known.find(({ name }) => name === fileByFilename)
      : known.find(({ symbols }) => symbols.has(fileContainingSymbol ?? ''));
  if (wanted !== undefined) {
    return { fileDescriptorResponse: { fileDescriptorProto: withDependencies(wanted, known) } };
  }
  const errorMessage = `nothing is known of ${fileByFilename ?? fileContainingSymbol ?? 'that'}`;
  return { errorResponse: { errorCode: GrpcCode.NOT_FOUND, errorMessage } };
}

function withDependencies(file: DescribedFile, all: readonly DescribedFile[]): Buffer[] {
  const found = new Set([file]);
  for (const each of found) {
    for (const name of each.dependencies) {
      const other = all.find((one) => one.name === name);
      if (other !== undefined) found.add(other);
    }
  }
  return [...found].map(({ bytes }) => bytes);
}
