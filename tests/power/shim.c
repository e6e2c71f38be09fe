// The worst disk that POSIX allows, between the server and the system: only what was synced is on
// it. Loaded with LD_PRELOAD. It watches what is written to files below `data` in the folder
// POWER_ROOT. When a file is synced, it copies what was written to the file's shadow, before the
// call returns; when a folder is synced, it writes down what the folder lists. So whenever the
// process is killed, the folder POWER_SHADOW holds what a loss of power would have left.
//
// The shadow of a file is named by device, inode and time of birth (numbers of inodes are given
// again), in hexadecimal with dashes; that of a folder has `.list` behind it and one line for each
// entry: `d` or `f`, the entry's own key, its name.
//
// What it does not see makes it stricter, not laxer: bytes written through a mapping, or synced by
// sync_file_range, msync or syncfs, count as lost, and a rename or a removal as not done before
// its folder is synced. So a call that is missing here fails the test and does not let it pass.
//
// A sync that is killed half-way leaves any part of what it was to sync, which is allowed.
// POWER_SLOW is how many microseconds a sync takes longer than it would, POWER_DIES the number of
// the sync in which the process ends, before anything of it is kept.
// POWER_DROPS=files or =folders makes a sync of these do nothing: for the test of the test.
// POWER_FAILS names a file; from when it is there, what is below `data` fails as it says: `EIO`,
// each sync; `EROFS`, each write and sync, as after a mount has turned read-only by itself.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

// Beyond so many ranges one that holds them all does as well: a sync covers the whole file.
#define RANGES 256
#define SLOTS 1024
#define MOST INT64_MAX

typedef struct {
    uint64_t dev, ino, born;
} inode_t;

typedef struct {
    int64_t from, to;
} range_t;

// A file that was seen: what was written since its last sync, and the shortest it was.
typedef struct file {
    inode_t key;
    int watched;
    int64_t shortest;
    int count;
    range_t ranges[RANGES];
    struct file *next;
} file_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static file_t *files[SLOTS];
static char root[PATH_MAX], data[PATH_MAX], shadow[PATH_MAX], fails[PATH_MAX];
static int drops_files, drops_folders;
static long slow, dies, syncs;

static int (*real_open)(const char *, int, ...);
static int (*real_open64)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_openat64)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_pwritev64)(int, const struct iovec *, int, off64_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_ftruncate64)(int, off64_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_fallocate64)(int, int, off64_t, off64_t);

// The test must not go on with a shadow that is wrong.
static void fail(const char *what, const char *where) {
    fprintf(stderr, "power shim: %s %s: %s\n", what, where, strerror(errno));
    _exit(97);
}

static void find(void *call, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "power shim: there is no %s\n", name);
        _exit(97);
    }
    memcpy(call, &found, sizeof found);
}

__attribute__((constructor)) static void begin(void) {
    find(&real_open, "open"), find(&real_open64, "open64");
    find(&real_openat, "openat"), find(&real_openat64, "openat64");
    find(&real_write, "write"), find(&real_writev, "writev");
    find(&real_pwrite, "pwrite"), find(&real_pwrite64, "pwrite64");
    find(&real_pwritev, "pwritev"), find(&real_pwritev64, "pwritev64");
    find(&real_ftruncate, "ftruncate"), find(&real_ftruncate64, "ftruncate64");
    find(&real_fallocate, "fallocate"), find(&real_fallocate64, "fallocate64");
    const char *in = getenv("POWER_ROOT"), *to = getenv("POWER_SHADOW");
    if (!in || !to || !realpath(in, root) || !realpath(to, shadow)) {
        fail("POWER_ROOT and POWER_SHADOW", "are to be folders");
    }
    snprintf(data, sizeof data, "%.4000s/data", root);
    const char *drops = getenv("POWER_DROPS");
    drops_files = drops && !strcmp(drops, "files");
    drops_folders = drops && !strcmp(drops, "folders");
    const char *way = getenv("POWER_FAILS");
    snprintf(fails, sizeof fails, "%s", way ? way : "");
    const char *micros = getenv("POWER_SLOW"), *number = getenv("POWER_DIES");
    slow = micros ? atol(micros) : 0;
    dies = number ? atol(number) : 0;
    // Who looks for this file knows that the shim is at work.
    char mark[PATH_MAX + 16];
    snprintf(mark, sizeof mark, "%s/at-work", shadow);
    int fd = real_open(mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail("cannot make", mark);
    }
    close(fd);
}

// Key and mode of what is open, or of a name in a folder; 0 where there is nothing.
static int identify(int fd, const char *name, inode_t *key, mode_t *mode) {
    struct statx at;
    int flags = *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
    if (statx(fd, name, flags, STATX_TYPE | STATX_INO | STATX_BTIME, &at)) {
        return 0;
    }
    *mode = at.stx_mode;
    key->dev = (uint64_t)at.stx_dev_major << 32 | at.stx_dev_minor;
    key->ino = at.stx_ino;
    key->born = at.stx_mask & STATX_BTIME
                    ? (uint64_t)at.stx_btime.tv_sec * 1000000000 + at.stx_btime.tv_nsec
                    : 0;
    return 1;
}

// Whether a path is `data` or below it.
static int below_data(const char *path) {
    size_t length = strlen(data);
    return !strncmp(path, data, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

// Whether a call on what is open is to fail now, with `errno` set. A write fails for one reason.
static int failing(int fd, int is_write) {
    char path[PATH_MAX], word[8] = "";
    int from = *fails ? real_open(fails, O_RDONLY | O_CLOEXEC) : -1;
    if (from < 0) {
        return 0;
    }
    ssize_t got = read(from, word, sizeof word - 1);
    close(from);
    int read_only = got > 0 && !strncmp(word, "EROFS", 5);
    if (got <= 0 || (is_write && !read_only) || !path_of(fd, path) || !below_data(path)) {
        return 0;
    }
    errno = read_only ? EROFS : EIO;
    return 1;
}

// What is known of a file that is watched; under the lock. Null for all others.
static file_t *known(int fd, inode_t key) {
    file_t **slot = &files[(key.ino ^ key.born) % SLOTS];
    for (file_t *file = *slot; file; file = file->next) {
        if (!memcmp(&file->key, &key, sizeof key)) {
            return file->watched ? file : NULL;
        }
    }
    file_t *file = calloc(1, sizeof *file);
    char path[PATH_MAX];
    if (!file) {
        fail("no memory for", "a file");
    }
    file->key = key;
    file->watched = path_of(fd, path) && below_data(path);
    file->shortest = MOST;
    file->next = *slot;
    *slot = file;
    return file->watched ? file : NULL;
}

static void add(file_t *file, int64_t from, int64_t to) {
    range_t *last = file->count ? &file->ranges[file->count - 1] : NULL;
    if (last && from <= last->to && to >= last->from) {
        last->from = from < last->from ? from : last->from;
        last->to = to > last->to ? to : last->to;
        return;
    }
    if (file->count == RANGES) {
        for (int i = 0; i < RANGES; i++) {
            from = file->ranges[i].from < from ? file->ranges[i].from : from;
            to = file->ranges[i].to > to ? file->ranges[i].to : to;
        }
        file->count = 0;
    }
    file->ranges[file->count++] = (range_t){from, to};
}

// Bytes were written: at a position, or (below 0) where the file now stands.
static ssize_t wrote(int fd, ssize_t done, int64_t at) {
    int before = errno;
    inode_t key;
    mode_t mode;
    if (done > 0 && identify(fd, "", &key, &mode) && S_ISREG(mode)) {
        pthread_mutex_lock(&lock);
        file_t *file = known(fd, key);
        // Right for files that are opened to append, too.
        int64_t from = at < 0 ? lseek(fd, 0, SEEK_CUR) - done : at;
        if (file) {
            add(file, from, from + done);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = before;
    return done;
}

// A file was cut or lengthened to so many bytes.
static void cut(int fd, int64_t length) {
    int before = errno;
    inode_t key;
    mode_t mode;
    if (identify(fd, "", &key, &mode) && S_ISREG(mode)) {
        pthread_mutex_lock(&lock);
        file_t *file = known(fd, key);
        if (file && length < file->shortest) {
            file->shortest = length;
        }
        pthread_mutex_unlock(&lock);
    }
    errno = before;
}

static void shadow_path(char *path, size_t size, inode_t key, const char *ending) {
    snprintf(path, size, "%.4000s/%llx-%llx-%llx%s", shadow, (unsigned long long)key.dev,
             (unsigned long long)key.ino, (unsigned long long)key.born, ending);
}

static void copy(int from, int to, range_t range, const char *path) {
    char bytes[1 << 16];
    while (range.from < range.to) {
        size_t most = range.to - range.from;
        ssize_t got = pread(from, bytes, most < sizeof bytes ? most : sizeof bytes, range.from);
        // Cut since it was written.
        if (got == 0) {
            return;
        }
        if (got < 0 || real_pwrite(to, bytes, got, range.from) != got) {
            fail("cannot copy to", path);
        }
        range.from += got;
    }
}

static void keep_file(int fd, inode_t key) {
    file_t *file = known(fd, key);
    struct stat now;
    char path[PATH_MAX], own[64];
    if (!file) {
        return;
    }
    // What is synced may be open for writing only.
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int from = real_open(own, O_RDONLY | O_CLOEXEC);
    shadow_path(path, sizeof path, key, "");
    int to = real_open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct stat old;
    if (from < 0 || to < 0 || fstat(from, &now) || fstat(to, &old)) {
        fail("cannot keep", path);
    }
    if (file->shortest < old.st_size && real_ftruncate(to, file->shortest)) {
        fail("cannot cut", path);
    }
    for (int i = 0; i < file->count; i++) {
        copy(from, to, file->ranges[i], path);
    }
    if (real_ftruncate(to, now.st_size)) {
        fail("cannot set the length of", path);
    }
    file->count = 0;
    file->shortest = MOST;
    close(from), close(to);
}

// Lists a folder; the length of the text.
static size_t list(int fd, int of_root, char **text) {
    size_t length = 0;
    FILE *out = open_memstream(text, &length);
    int own = real_openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = own < 0 ? NULL : fdopendir(own);
    if (!out || !folder) {
        fail("cannot list", "a folder");
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        inode_t key;
        mode_t mode;
        const char *name = entry->d_name;
        int of_data = !of_root || !strcmp(name, "data");
        // A name that is gone meanwhile is not to be kept.
        if (of_data && strcmp(name, ".") && strcmp(name, "..") &&
            identify(fd, name, &key, &mode)) {
            fprintf(out, "%c %llx-%llx-%llx %s\n", S_ISDIR(mode) ? 'd' : 'f',
                    (unsigned long long)key.dev, (unsigned long long)key.ino,
                    (unsigned long long)key.born, name);
        }
    }
    closedir(folder);
    fclose(out);
    return length;
}

static void keep_folder(int fd, inode_t key) {
    char path[PATH_MAX], beside[PATH_MAX + 8];
    if (!path_of(fd, path) || (strcmp(path, root) && !below_data(path))) {
        return;
    }
    int of_root = !strcmp(path, root);
    // A folder that changes while it is read may show a renamed entry under neither name.
    char *text, *again;
    size_t length = list(fd, of_root, &text);
    for (size_t second; second = list(fd, of_root, &again), strcmp(text, again);) {
        free(text);
        text = again, length = second;
    }
    free(again);
    shadow_path(path, sizeof path, key, ".list");
    snprintf(beside, sizeof beside, "%s.new", path);
    int to = real_open(beside, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (to < 0 || real_write(to, text, length) != (ssize_t)length || rename(beside, path)) {
        fail("cannot keep", path);
    }
    close(to);
    free(text);
}

// What is synced is on the disk from now on. The system's own sync would only take time: what is
// kept here is what counts.
static int synced(int fd) {
    int before = errno;
    if (failing(fd, 0)) {
        return -1;
    }
    errno = before;
    inode_t key;
    mode_t mode;
    if (!identify(fd, "", &key, &mode)) {
        return -1;
    }
    usleep(slow);
    if (__atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST) == dies) {
        kill(getpid(), SIGKILL);
    }
    // One at a time: an older list must not replace a newer one.
    pthread_mutex_lock(&lock);
    if (S_ISDIR(mode) && !drops_folders) {
        keep_folder(fd, key);
    } else if (S_ISREG(mode) && !drops_files) {
        keep_file(fd, key);
    }
    pthread_mutex_unlock(&lock);
    errno = before;
    return 0;
}

static int opened(int fd, int flags) {
    if (fd >= 0 && flags & O_TRUNC) {
        cut(fd, 0);
    }
    return fd;
}

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened(real_open(path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened(real_open64(path, flags, mode), flags);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(real_openat(folder, path, flags, mode), flags);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(real_openat64(folder, path, flags, mode), flags);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    return failing(fd, 1) ? -1 : wrote(fd, real_write(fd, bytes, size), -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return failing(fd, 1) ? -1 : wrote(fd, real_writev(fd, parts, count), -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    return failing(fd, 1) ? -1 : wrote(fd, real_pwrite(fd, bytes, size, at), at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    return failing(fd, 1) ? -1 : wrote(fd, real_pwrite64(fd, bytes, size, at), at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return failing(fd, 1) ? -1 : wrote(fd, real_pwritev(fd, parts, count, at), at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    return failing(fd, 1) ? -1 : wrote(fd, real_pwritev64(fd, parts, count, at), at);
}

int ftruncate(int fd, off_t length) {
    int result = real_ftruncate(fd, length);
    if (result == 0) {
        cut(fd, length);
    }
    return result;
}

int ftruncate64(int fd, off64_t length) {
    int result = real_ftruncate64(fd, length);
    if (result == 0) {
        cut(fd, length);
    }
    return result;
}

int fallocate(int fd, int how, off_t at, off_t length) {
    int result = real_fallocate(fd, how, at, length);
    wrote(fd, result == 0 ? length : 0, at);
    return result;
}

int fallocate64(int fd, int how, off64_t at, off64_t length) {
    int result = real_fallocate64(fd, how, at, length);
    wrote(fd, result == 0 ? length : 0, at);
    return result;
}

int fsync(int fd) {
    return synced(fd);
}

int fdatasync(int fd) {
    return synced(fd);
}
