// cclient.c - raw epoll SSE/HTTP client: the physical limit of one core. Closed loop with C connections, R requests.
// build: gcc -O2 -o cclient cclient.c ; usage: cclient port conc requests stream(0/1) max_tokens outprefix|- [model [seconds]]
// With `seconds` it stops then, in the middle of what is under way. Prints one JSON line. With a prefix it writes OUT.csv (id,conn,t0,ttft,e2e,n; ns) and OUT.chunks: int64 pairs of
// request number and arrival (CLOCK_MONOTONIC ns), one pair per chunk.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
typedef int64_t i64;
static i64 now(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec*1000000000LL+t.tv_nsec;}
typedef struct{int fd;i64 t0,t1,tl;int n;int rid;char tailb[8];int tb;} conn;
typedef struct{i64 t0,ttft,e2e;int n,conn;}rec;
static int port,C,R,stream,mt;static const char*model="mock";static rec*recs;static i64*its;static size_t nits,capits;static int started,done;static int ep;
static void sendreq(conn*c){ char b[300],o[700]; c->rid=started++; 
  int l=sprintf(b,"{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":%d,\"stream\":%s}",model,mt,stream?"true":"false");
  int k=sprintf(o,"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Request-Id: c%d\r\nContent-Length: %d\r\n\r\n%s",c->rid,l,b);
  c->t0=now();c->t1=0;c->n=0;c->tb=0; if(send(c->fd,o,k,MSG_NOSIGNAL)!=k){perror("send");exit(1);} }
static int count(const char*b,int n){int k=0;const char*p=b,*e=b+n;while((p=memmem(p,e-p,"data: ",6))){k++;p+=6;}return k;}
int main(int ac,char**av){ port=atoi(av[1]);C=atoi(av[2]);R=atoi(av[3]);stream=atoi(av[4]);mt=atoi(av[5]);const char*out=ac>6?av[6]:"-"; if(ac>7)model=av[7]; double limit=ac>8?atof(av[8]):1e9; int want=strcmp(out,"-");
  recs=calloc(R+C,sizeof*recs);conn*cs=calloc(C,sizeof*cs);ep=epoll_create1(0);int one=1;
  struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(port),.sin_addr.s_addr=htonl(INADDR_LOOPBACK)};
  i64 T0=now(); i64 nch=0,nrecv=0;
  for(int i=0;i<C&&i<R;i++){cs[i].fd=socket(AF_INET,SOCK_STREAM,0);if(connect(cs[i].fd,(void*)&a,sizeof a)){perror("connect");return 1;}setsockopt(cs[i].fd,IPPROTO_TCP,TCP_NODELAY,&one,4);struct epoll_event e={.events=EPOLLIN,.data.ptr=&cs[i]};epoll_ctl(ep,EPOLL_CTL_ADD,cs[i].fd,&e);sendreq(&cs[i]);}
  struct epoll_event ev[256];static char buf[1<<18];
  while(done<R&&now()-T0<limit*1e9){int n=epoll_wait(ep,ev,256,-1);for(int i=0;i<n;i++){conn*c=ev[i].data.ptr;
    ssize_t r=recv(c->fd,buf,sizeof buf,MSG_DONTWAIT);if(r<=0){if(r<0&&errno==EAGAIN)continue;fprintf(stderr,"closed\n");return 1;}
    i64 t=now();nrecv++;int fin=0;
    if(stream){int k=count(buf,r);if(r>=5&&!memcmp(buf+r-5,"0\r\n\r\n",5)){fin=1;k--;} // last is [DONE]
      if(k>0){if(!c->n)c->t1=t;
        if(want)for(int q=0;q<k;q++){if(nits+2>capits){capits=capits?capits*2:1<<20;its=realloc(its,capits*8);}its[nits++]=c->rid;its[nits++]=t;}
        c->n+=k;c->tl=t;nch+=k;}}
    else {c->t1=c->tl=t;fin=1;c->n=1;}
    if(fin){rec*q=&recs[c->rid];q->t0=c->t0;q->ttft=c->t1-c->t0;q->e2e=c->tl-c->t0;q->n=c->n;q->conn=c-cs;done++;if(started<R)sendreq(c);}
  }}
  double el=(now()-T0)/1e9;
  struct rusage ru;getrusage(RUSAGE_SELF,&ru);
  double cpu=ru.ru_utime.tv_sec+ru.ru_utime.tv_usec/1e6+ru.ru_stime.tv_sec+ru.ru_stime.tv_usec/1e6;
  long kb=0;char line[200];FILE*st=fopen("/proc/self/status","r");while(st&&fgets(line,sizeof line,st))sscanf(line,"VmHWM: %ld",&kb);
  printf("{\"cpu_s\":%.4f,\"peak_kb\":%ld,\"elapsed_s\":%.4f,\"requests\":%d,\"rps\":%.1f,\"chunks\":%lld,\"chunks_per_s\":%.0f,\"recvs\":%lld}\n",cpu,kb,el,done,done/el,(long long)nch,nch/el,(long long)nrecv);
  if(want){char fn[300];sprintf(fn,"%s.csv",out);FILE*f=fopen(fn,"w");fprintf(f,"id,conn,t0,ttft,e2e,n\n");for(int i=0;i<R;i++)fprintf(f,"c%d,%d,%lld,%lld,%lld,%d\n",i,recs[i].conn,(long long)recs[i].t0,(long long)recs[i].ttft,(long long)recs[i].e2e,recs[i].n);fclose(f);
    sprintf(fn,"%s.chunks",out);f=fopen(fn,"w");fwrite(its,8,nits,f);fclose(f);}
  return 0;}
