/* stats_text.c: the rows of `stats` in the text protocol. */
#include <stdlib.h>

#include "src/base/text.h"
#include "src/observe/stats.h"

static void take_row(void *context, const struct stats_row *row)
{
    const char *word = row->is_prefix ? "PREFIX" : "STAT";
    text_add(context, "%s %s %s\r\n", word, row->name, row->value);
}

bool stats_text(const struct stats_source *source, const char *args, size_t args_len, char **out,
                size_t *len)
{
    struct text text = {0};
    const struct stats_receiver to = {take_row, &text};
    enum stats_answer answer = stats_each(source, args, args_len, &to);

    if (answer == STATS_RESET)
        text_add(&text, "RESET\r\n");
    else if (answer == STATS_LIST || answer == STATS_PREFIXES)
        text_add(&text, "END\r\n");

    if (answer == STATS_UNKNOWN || text.failed) {
        free(text.data);
        return false;
    }
    *out = text.data;
    *len = text.len;
    return true;
}
