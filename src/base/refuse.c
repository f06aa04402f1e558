#include "src/base/refuse.h"

#include <stdarg.h>
#include <stdio.h>

bool refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return false;
}
