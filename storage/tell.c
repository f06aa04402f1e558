#include "storage/tell.h"

#include <stdarg.h>
#include <stdio.h>

void tell(const struct tell *tell, enum tell_level level, const char *format, ...)
{
    char message[512];
    va_list arguments;
    if (!tell->write)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    tell->write(tell->context, level, message);
}
