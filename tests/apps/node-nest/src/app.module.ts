import { Controller, Get, Module } from '@nestjs/common';

@Controller()
class AppController {
  @Get()
  getHello(): string {
    return 'Hello Nest!';
  }
}

@Module({ controllers: [AppController] })
export class AppModule {}
