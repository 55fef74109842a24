/**
 * The messages of gRPC's server reflection, and those of descriptor.proto that it answers with: what a
 * program like grpcurl needs to speak with a server whose files it does not have. Part of schema.ts.
 */
import { bool, bytes, message, oneof, repeated, text, uint32 } from './field.js';

export const reflection = {
  ServerReflectionRequest: {
    host: text(1),
    file_by_filename: oneof('message_request', text(3)),
    file_containing_symbol: oneof('message_request', text(4)),
    all_extension_numbers_of_type: oneof('message_request', text(6)),
    list_services: oneof('message_request', text(7)),
  },
  ServerReflectionResponse: {
    valid_host: text(1),
    original_request: message(2, 'ServerReflectionRequest'),
    file_descriptor_response: oneof('message_response', message(4, 'FileDescriptorResponse')),
    list_services_response: oneof('message_response', message(6, 'ListServiceResponse')),
    error_response: oneof('message_response', message(7, 'ErrorResponse')),
  },
  FileDescriptorResponse: { file_descriptor_proto: repeated(bytes(1)) },
  ListServiceResponse: { service: repeated(message(1, 'ServiceResponse')) },
  ServiceResponse: { name: text(1) },
  ErrorResponse: { error_code: uint32(1), error_message: text(2) },

  FileDescriptorProto: {
    name: text(1),
    package: text(2),
    dependency: repeated(text(3)),
    message_type: repeated(message(4, 'DescriptorProto')),
    enum_type: repeated(message(5, 'EnumDescriptorProto')),
    service: repeated(message(6, 'ServiceDescriptorProto')),
    syntax: text(12),
  },
  DescriptorProto: {
    name: text(1),
    field: repeated(message(2, 'FieldDescriptorProto')),
    enum_type: repeated(message(4, 'EnumDescriptorProto')),
    oneof_decl: repeated(message(8, 'OneofDescriptorProto')),
  },
  FieldDescriptorProto: {
    name: text(1),
    number: uint32(3),
    label: uint32(4),
    type: uint32(5),
    type_name: text(6),
    // Zero is the first union, so it must be told from none.
    oneof_index: oneof('optional', uint32(9)),
  },
  OneofDescriptorProto: { name: text(1) },
  EnumDescriptorProto: { name: text(1), value: repeated(message(2, 'EnumValueDescriptorProto')) },
  EnumValueDescriptorProto: { name: text(1), number: oneof('optional', uint32(2)) },
  ServiceDescriptorProto: {
    name: text(1),
    method: repeated(message(2, 'MethodDescriptorProto')),
  },
  MethodDescriptorProto: {
    name: text(1),
    input_type: text(2),
    output_type: text(3),
    client_streaming: bool(5),
    server_streaming: bool(6),
  },
};
