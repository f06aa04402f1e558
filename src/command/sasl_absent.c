/* sasl_absent.c: a build without libsasl2. Settings refuse -S, so no session is ever asked for. */
#include "src/command/sasl.h"

bool sasl_built_in(void)
{
    return false;
}

bool sasl_setup(const _Atomic int *verbosity)
{
    (void)verbosity;
    return false;
}

void sasl_teardown(void)
{
}

struct sasl_session *sasl_session_new(void)
{
    return NULL;
}

void sasl_session_free(struct sasl_session *session)
{
    (void)session;
}

struct bytes sasl_session_mechanisms(struct sasl_session *session)
{
    (void)session;
    return (struct bytes){0};
}

enum sasl_result sasl_session_start(struct sasl_session *session, struct bytes mechanism,
                                    struct bytes data, struct bytes *answer)
{
    (void)session;
    (void)mechanism;
    (void)data;
    (void)answer;
    return SASL_RESULT_FAILED;
}

enum sasl_result sasl_session_step(struct sasl_session *session, struct bytes data,
                                   struct bytes *answer)
{
    (void)session;
    (void)data;
    (void)answer;
    return SASL_RESULT_FAILED;
}
