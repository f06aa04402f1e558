/* codec.c: the table of protocols. */
#include "bench/codec.h"

#include <string.h>

static const struct codec *const codecs[] = {&codec_text, &codec_meta, &codec_binary, &codec_redis};

static const char *const kind_names[REQUEST_KINDS] = {
    [REQUEST_GET] = "get",     [REQUEST_SET] = "set",       [REQUEST_INCR] = "incr",
    [REQUEST_TOUCH] = "touch", [REQUEST_DELETE] = "delete",
};

const struct codec *codec_named(const char *name)
{
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++)
        if (strcmp(codecs[i]->name, name) == 0)
            return codecs[i];
    return NULL;
}

const char *request_kind_name(enum request_kind kind)
{
    return kind_names[kind];
}
