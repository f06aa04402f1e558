# protocol/: bytes to requests, replies to bytes.
noinst_LIBRARIES += libprotocol.a
libprotocol_a_SOURCES = \
    protocol/base64.c protocol/base64.h \
    protocol/binary.c protocol/binary.h \
    protocol/binary_reply.c \
    protocol/meta.c \
    protocol/meta_reply.c \
    protocol/parse.h \
    protocol/parser.c protocol/parser.h \
    protocol/reply.h \
    protocol/request.h \
    protocol/text.c protocol/text.h \
    protocol/text_command.c \
    protocol/text_get.c \
    protocol/text_guard.c \
    protocol/text_input.h \
    protocol/text_output.h \
    protocol/text_reply.c \
    protocol/text_store.c \
    protocol/token.c protocol/token.h
