/* sasl.c: libsasl2 and what it asks us. */
#define _GNU_SOURCE
#include "src/command/sasl.h"

#include <ctype.h>
#include <pthread.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/server_log.h"

#define SERVICE "memcached" /* sites have their configuration under this name */

struct sasl_session {
    sasl_conn_t *conn;
};

/* libsasl2 is one for the whole process, and so is this. */
static const char *password_file; /* $MEMCACHED_SASL_PWDB, or NULL */

/* libsasl2 leaves locking to its user. */

static void *new_mutex(void)
{
    pthread_mutex_t *mutex = malloc(sizeof *mutex);
    if (mutex)
        pthread_mutex_init(mutex, NULL);
    return mutex;
}

static int lock_mutex(void *mutex)
{
    return pthread_mutex_lock(mutex) ? SASL_FAIL : SASL_OK;
}

static int unlock_mutex(void *mutex)
{
    return pthread_mutex_unlock(mutex) ? SASL_FAIL : SASL_OK;
}

static void free_mutex(void *mutex)
{
    pthread_mutex_destroy(mutex);
    free(mutex);
}

/* The message may hold what a client has sent: no byte of it may begin a line of its own. */
static int on_log(void *context, int level, const char *message)
{
    const _Atomic int *verbosity = context;
    char line[512];
    size_t len = 0;
    if (level == SASL_LOG_NONE || level == SASL_LOG_PASS || !message || !atomic_load(verbosity))
        return SASL_OK;
    for (; len < sizeof line - 1 && message[len]; len++)
        line[len] = isprint((unsigned char)message[len]) ? message[len] : '?';
    line[len] = '\0';
    server_log("sasl: %s", line);
    return SASL_OK;
}

/* With a file of our own: no mechanism that needs to know more than it says, and nobody else is
 * asked. */
static int on_option(void *context, const char *plugin, const char *option, const char **result,
                     unsigned *len)
{
    (void)context;
    (void)plugin;
    if (!password_file)
        return SASL_FAIL; /* look into the configuration */
    if (strcmp(option, "mech_list") == 0)
        *result = "plain";
    else if (strcmp(option, "pwcheck_method") == 0)
        *result = "auxprop";
    else if (strcmp(option, "auxprop_plugin") == 0)
        *result = "none";
    else
        return SASL_FAIL;
    if (len)
        *len = (unsigned)strlen(*result);
    return SASL_OK;
}

/* Tells nothing by the time it takes but how long the line is. */
static bool is_same(const char *a, const char *b, size_t len)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

/* A line of the file: user, a colon, password; what stands behind another colon is not ours. */
static bool line_allows(const char *line, const char *user, size_t user_len, const char *password,
                        size_t password_len)
{
    const char *colon = strchr(line, ':');
    if (!colon || (size_t)(colon - line) != user_len)
        return false;
    bool same_user = is_same(line, user, user_len);
    bool same_len = strcspn(colon + 1, ":\r\n") == password_len;
    bool same_password = same_len && is_same(colon + 1, password, password_len);
    return same_user && same_password;
}

static int on_password(sasl_conn_t *conn, void *context, const char *user, const char *password,
                       unsigned password_len, struct propctx *properties)
{
    char *line = NULL;
    size_t room = 0;
    bool allowed = false;
    (void)conn;
    (void)context;
    (void)properties;
    FILE *file = fopen(password_file, "re");
    if (!file)
        return SASL_FAIL;
    while (getline(&line, &room, file) >= 0)
        allowed |= line_allows(line, user, strlen(user), password, password_len);
    if (line)
        explicit_bzero(line, room);
    free(line);
    fclose(file);
    return allowed ? SASL_OK : SASL_BADAUTH;
}

/* libsasl2 has one type for callbacks of all kinds. */
typedef int (*callback)(void);

bool sasl_built_in(void)
{
    return true;
}

bool sasl_setup(const _Atomic int *verbosity)
{
    static sasl_callback_t callbacks[4]; /* kept by libsasl2 */
    int count = 0;
    password_file = getenv("MEMCACHED_SASL_PWDB");
    callbacks[count++] =
        (sasl_callback_t){SASL_CB_LOG, (callback)(void (*)(void))on_log, (void *)verbosity};
    callbacks[count++] =
        (sasl_callback_t){SASL_CB_GETOPT, (callback)(void (*)(void))on_option, NULL};
    if (password_file)
        callbacks[count++] = (sasl_callback_t){SASL_CB_SERVER_USERDB_CHECKPASS,
                                               (callback)(void (*)(void))on_password, NULL};
    callbacks[count] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    sasl_set_mutex(new_mutex, lock_mutex, unlock_mutex, free_mutex);
    int status = sasl_server_init(callbacks, SERVICE);
    if (status != SASL_OK)
        fprintf(stderr, "-S: libsasl2 cannot start: %s\n", sasl_errstring(status, NULL, NULL));
    return status == SASL_OK;
}

void sasl_teardown(void)
{
    sasl_server_done();
}

/* Nothing but the password is protected by the mechanism, for the protocol knows no other form than
 * its own; and who is nobody stays outside. */
static bool set_properties(sasl_conn_t *conn)
{
    const sasl_security_properties_t properties = {
        .max_ssf = 0,
        .security_flags = SASL_SEC_NOANONYMOUS,
    };
    return sasl_setprop(conn, SASL_SEC_PROPS, &properties) == SASL_OK;
}

struct sasl_session *sasl_session_new(void)
{
    struct sasl_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    if (sasl_server_new(SERVICE, NULL, NULL, NULL, NULL, NULL, 0, &session->conn) == SASL_OK &&
        set_properties(session->conn))
        return session;
    sasl_session_free(session);
    return NULL;
}

void sasl_session_free(struct sasl_session *session)
{
    if (!session)
        return;
    sasl_dispose(&session->conn);
    free(session);
}

struct bytes sasl_session_mechanisms(struct sasl_session *session)
{
    const char *list = NULL;
    unsigned len = 0;
    if (sasl_listmech(session->conn, NULL, "", " ", "", &list, &len, NULL) != SASL_OK)
        return (struct bytes){0};
    return (struct bytes){list, len};
}

static enum sasl_result result_of(int status)
{
    if (status == SASL_OK)
        return SASL_RESULT_DONE;
    return status == SASL_CONTINUE ? SASL_RESULT_CONTINUE : SASL_RESULT_FAILED;
}

enum sasl_result sasl_session_start(struct sasl_session *session, struct bytes mechanism,
                                    struct bytes data, struct bytes *answer)
{
    char name[KEY_LEN_MAX + 1];
    const char *out = NULL;
    unsigned out_len = 0;
    memcpy(name, mechanism.data, mechanism.len);
    name[mechanism.len] = '\0';
    if (strlen(name) != mechanism.len) /* libsasl2 would see only what is before the zero */
        return SASL_RESULT_FAILED;
    int status = sasl_server_start(session->conn, name, data.len ? data.data : NULL,
                                   (unsigned)data.len, &out, &out_len);
    *answer = (struct bytes){out, out ? out_len : 0};
    return result_of(status);
}

enum sasl_result sasl_session_step(struct sasl_session *session, struct bytes data,
                                   struct bytes *answer)
{
    const char *out = NULL;
    unsigned out_len = 0;
    int status = sasl_server_step(session->conn, data.data, (unsigned)data.len, &out, &out_len);
    *answer = (struct bytes){out, out ? out_len : 0};
    return result_of(status);
}
