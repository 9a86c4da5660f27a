import { Controller, Get, Module } from '@nestjs/common';

@Controller()
class AppController {
  @Get()
  getHello(): string {
    return 'Hello from a workspace!';
  }
}

@Module({ controllers: [AppController] })
export class AppModule {}
