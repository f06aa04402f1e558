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
#include "src/command/internal.h"

#define SERVICE "memcached" /* sites have their configuration under this name */

static const char *password_file; /* $MEMCACHED_SASL_PWDB, or NULL; global as libsasl2 is */

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

/* With a file of our own, PLAIN is the only mechanism and nobody else is asked. */
static int on_option(void *context, const char *plugin, const char *option, const char **result,
                     unsigned *len)
{
    (void)context, (void)plugin;
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

/* A line of the file: user, a colon, password, perhaps another colon and what is not for us. */
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
    (void)conn, (void)context, (void)properties;
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

void sasl_end(struct client *client)
{
    sasl_dispose(&client->sasl);
}

/* NULL: no memory, or the configuration is wrong. The mechanism protects the password and nothing
 * after it, as the protocol has no other form than its own; nobody comes in without a name. */
static sasl_conn_t *new_session(void)
{
    const sasl_security_properties_t properties = {
        .max_ssf = 0,
        .security_flags = SASL_SEC_NOANONYMOUS,
    };
    sasl_conn_t *session = NULL;
    if (sasl_server_new(SERVICE, NULL, NULL, NULL, NULL, NULL, 0, &session) != SASL_OK ||
        sasl_setprop(session, SASL_SEC_PROPS, &properties) != SASL_OK)
        sasl_dispose(&session);
    return session;
}

/* A head, and a value that libsasl2 may change before it is sent. */
static void reply(const struct command *command, enum reply_status status, struct bytes value)
{
    struct reply reply = {.status = status, .value = value.data, .value_len = value.len};
    char *copy = value.len ? malloc(value.len) : NULL;
    if (value.len && !copy)
        reply = (struct reply){.status = REPLY_NO_MEMORY};
    command_reply(command, &reply);
    if (!copy)
        return;
    memcpy(copy, value.data, value.len);
    output_add_heap(&command->client->context->output, copy, value.len);
    command->client->out_bytes += value.len;
}

/* Answers with the mechanisms that the client may choose from, separated by blanks. */
static void list_mechanisms(const struct command *command)
{
    const char *list = NULL;
    unsigned len = 0;
    sasl_conn_t *session = new_session();
    if (session && sasl_listmech(session, NULL, "", " ", "", &list, &len, NULL) != SASL_OK)
        len = 0;
    reply(command, session ? REPLY_SASL_DONE : REPLY_SASL_FAILED, (struct bytes){list, len});
    sasl_dispose(&session);
}

static int start(struct client *client, struct bytes mechanism, struct bytes data,
                 const char **answer, unsigned *answer_len)
{
    char name[KEY_LEN_MAX + 1];
    memcpy(name, mechanism.data, mechanism.len);
    name[mechanism.len] = '\0';
    if (strlen(name) != mechanism.len) /* libsasl2 would see only what is before the zero */
        return SASL_FAIL;
    return sasl_server_start(client->sasl, name, data.len ? data.data : NULL, (unsigned)data.len,
                             answer, answer_len);
}

/* The client's first words, or its further ones: a status of libsasl2, which owns *answer until the
 * next call. It may wait for a file, or for a daemon that knows passwords. */
static int authenticate(struct client *client, const struct request *request, struct bytes *answer)
{
    struct bytes data = request->value;
    const char *out = NULL;
    unsigned out_len = 0;
    int status = SASL_FAIL; /* a step without a start */
    if (request->op == OP_SASL_AUTH) {
        sasl_end(client);
        client->sasl = new_session();
    }
    if (client->sasl && request->op == OP_SASL_AUTH)
        status = start(client, request->args, data, &out, &out_len);
    else if (client->sasl)
        status = sasl_server_step(client->sasl, data.data, (unsigned)data.len, &out, &out_len);
    *answer = (struct bytes){out, out ? out_len : 0};
    return status;
}

void sasl_run(const struct command *command)
{
    static const struct bytes welcome = {"Authenticated", 13};
    struct client *client = command->client;
    struct counters *counters = &client->context->counters;
    struct bytes answer;
    if (command->request.op == OP_SASL_LIST) {
        list_mechanisms(command);
        return;
    }
    int status = authenticate(client, &command->request, &answer);
    client_set_locked(client, status != SASL_OK);
    if (status == SASL_CONTINUE) {
        reply(command, REPLY_SASL_CONTINUE, answer);
        return;
    }
    if (status == SASL_OK) {
        reply(command, REPLY_SASL_DONE, welcome);
    } else {
        reply(command, REPLY_SASL_FAILED, (struct bytes){0});
        counter_add(&counters->auth_errors, 1);
    }
    counter_add(&counters->auth_cmds, 1);
    sasl_end(client);
}
